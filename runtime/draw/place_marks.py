"""Zones and lines on a picture, with their names."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..events.places import Line, Places, Zone
from ..opencv import cv2
from .shapes import Box, Image, overlap, panel
from .text import draw_text, drawable, text_width

_INK, _HALO = (245, 245, 245), (24, 22, 20)  # BGR: seen on any picture


def draw_places(canvas: Image, places: Places, size: int, taken: list[Box]) -> None:
    """Outlines and names onto `canvas` in place. `size` is that of text; `taken` are boxes that hold text already."""
    height, width = canvas.shape[:2]
    thick = max(1, round(min(height, width) / 320))
    scale = np.array([width, height], np.float64)
    both: tuple[Zone | Line, ...] = (*places.zones, *places.lines)
    for place in both:
        points = np.rint(np.array(place.points) * scale * 16).astype(np.int32)
        closed = isinstance(place, Zone)
        for colour, extra in ((_HALO, 2), (_INK, 0)):
            cv2.polylines(canvas, [points], closed, colour, thick + extra, cv2.LINE_AA, shift=4)
        if isinstance(place, Line):
            _arrow(canvas, place, scale, 3 * thick)
        _name(canvas, place.name, place.points[0], size, taken)


def _arrow(canvas: Image, line: Line, scale: npt.NDArray[np.float64], size: int) -> None:
    """A tip at the line's end: left and right are seen along it."""
    end, before = np.array(line.points[-1]) * scale, np.array(line.points[-2]) * scale
    way = (end - before) / max(1e-6, float(np.linalg.norm(end - before)))
    side = np.array([-way[1], way[0]])
    tip = np.stack([end, end - 3 * size * way + size * side, end - 3 * size * way - size * side])
    cv2.fillPoly(canvas, [np.rint(tip * 16).astype(np.int32)], _INK, cv2.LINE_AA, shift=4)


def _name(canvas: Image, name: str, corner: tuple[float, float], size: int, taken: list[Box]) -> None:
    height, width = canvas.shape[:2]
    text, pad = drawable(name), size // 3
    across, down = text_width(text, size) + 2 * pad, size + pad
    x = int(np.clip(corner[0] * width, 0, max(0, width - across)))
    for shift in (-down - 2, 2):
        y = int(np.clip(corner[1] * height + shift, 0, max(0, height - down)))
        box = (x, y, x + across, y + down)
        if not any(overlap(box, other) for other in taken):
            panel(canvas, box, size // 4)
            draw_text(canvas, text, (x + pad, y + round(down / 2 + size * 0.33)), size, _INK)
            taken.append(box)
            return
