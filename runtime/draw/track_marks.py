"""Ids and trails of tracked regions on a picture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..inference.prediction import Prediction
from ..opencv import cv2
from ..regions.track import Track
from .colour_map import ColourMap
from .palette import text_colour
from .shapes import Box, Image, overlap, rounded
from .text import draw_text, drawable, text_width

_LARGE = 0.012  # share of the picture from which the class stands beside the id


def draw_tracks(
    canvas: Image, prediction: Prediction, painted: ColourMap, size: int, taken: list[Box], *, names: bool
) -> None:
    """Trails and ids onto `canvas` in place, the largest region first; `names`: whether the class stands with the id."""
    colours = dict(zip(prediction.classes, painted.class_palette, strict=True))
    hidden = {label for label, off in zip(prediction.classes, painted.hidden, strict=True) if off}
    tracks = sorted((track for track in prediction.tracks if track.label not in hidden), key=lambda one: -one.share)
    scale = np.array([canvas.shape[1], canvas.shape[0]], np.float64)
    for track in tracks:
        points = np.rint(np.array(track.trail) * scale * 16).astype(np.int32)
        if len(points) > 1:
            colour = colours[track.label].tolist()
            cv2.polylines(canvas, [points], isClosed=False, color=colour, thickness=max(1, size // 8), shift=4)
    for track in tracks:
        text = f"{drawable(track.label)} {track.id}" if names and track.share >= _LARGE else str(track.id)
        _tag(canvas, track, text, colours[track.label], size, taken)


def _tag(canvas: Image, track: Track, text: str, colour: npt.NDArray[np.uint8], size: int, taken: list[Box]) -> None:
    """The id above the region, or within it, where there is room."""
    height, width = canvas.shape[:2]
    pad = size // 4
    across, down = text_width(text, size) + 2 * pad, size + pad
    x0, y0, x1, y1 = track.box
    x = int(np.clip((x0 + x1 - across) // 2, 0, max(0, width - across)))
    for top in (y0 - down, y0, (y0 + y1 - down) // 2, y1 - down):
        y = int(np.clip(top, 0, max(0, height - down)))
        box = (x, y, x + across, y + down)
        if not any(overlap(box, other) for other in taken):
            rounded(canvas, box, colour.tolist(), size // 4)
            draw_text(canvas, text, (x + pad, y + round(down / 2 + size * 0.33)), size, text_colour(colour))
            taken.append(box)
            return
