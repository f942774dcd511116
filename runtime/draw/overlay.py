"""Draws predictions: filled regions, outlines, names on the regions, a legend, and the frame rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ..events.places import Places
from ..inference.prediction import Prediction
from ..opencv import cv2
from ..status import Status
from .colour_map import ColourMap, colour_map, pixel_counts
from .palette import text_colour
from .place_marks import draw_places
from .shapes import Box, Image, overlap, panel, rounded
from .text import draw_text, drawable, text_width
from .track_marks import draw_tracks

_ANALYSED = 128  # longest side on which the places for names are sought; finer adds time, not better places
_SMALLEST_NAMED = 0.012  # share of the picture from which a region gets its name
_MOST_LISTED = 14  # legend lines
_STEP = 1.2  # pixels an outline may leave the mask's edge
_LONGEST_BANNER = 100  # characters
_LEAST_SIDE = 120  # pixels; a smaller picture has no room for text


@dataclass(frozen=True)
class Style:
    """How much is drawn."""

    opacity: float = 0.5  # of the fill, 0 (picture only) to 1 (colours only)
    outlines: bool = True
    names: bool = True  # on the regions
    legend: bool = True
    figures: bool = True  # frame rate and frame age, where they are known
    colours: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)  # label -> BGR, else the palette's
    hidden: frozenset[str] = frozenset()  # labels that are not painted; the legend goes on listing them
    places: Places | None = None  # zones and lines; None: not drawn

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise UsageError(f"the opacity is {self.opacity:g}, expected a number from 0 to 1")


def draw(image: Image, prediction: Prediction, style: Style, status: Status | None = None) -> Image:
    """A picture (H, W, 3) BGR like `image` with `prediction` drawn on it; `image` stays as it is."""
    painted = colour_map(prediction, style.colours, style.hidden)
    canvas = _filled(image, painted, style.opacity)
    if style.outlines:
        _outline(canvas, painted)
    size = _text_size(image)
    if min(image.shape[:2]) >= _LEAST_SIDE:
        taken = _legend(canvas, prediction.classes, painted, size) if style.legend else []
        if style.figures and status is not None and (text := _figures(status)):
            taken.append(_corner(canvas, text, size))
        if style.places is not None:
            draw_places(canvas, style.places, size, taken)
        if prediction.tracks:
            draw_tracks(canvas, prediction, painted, size, taken, names=style.names)
        elif style.names:
            _names(canvas, painted, size, taken)
    return canvas


def fill(image: Image, prediction: Prediction, opacity: float) -> Image:
    """`image` with every pixel of a class, or of a segment, tinted; the rest is untouched."""
    return _filled(image, colour_map(prediction), opacity)


def _filled(image: Image, painted: ColourMap, opacity: float) -> Image:
    """Colours come by table lookup."""
    palette, numbers = painted.palette, painted.numbers
    if numbers.dtype == np.uint8:
        table = np.zeros((256, 1, 3), np.uint8)
        table[: len(palette), 0] = palette
        tint = cv2.applyColorMap(numbers, table)
        bare = (numbers >= len(palette)).view(np.uint8)
    else:
        tint = np.concatenate([palette, np.zeros((1, 3), np.uint8)])[numbers]
        bare = (numbers < 0).view(np.uint8)
    # Pixels without a label are blended with themselves. All in one array: new memory costs more than arithmetic.
    cv2.copyTo(image, bare, tint)
    return cast(Image, cv2.addWeighted(image, 1 - opacity, tint, opacity, 0, dst=tint))


def _outline(canvas: Image, painted: ColourMap) -> None:
    width = max(1, round(min(canvas.shape[:2]) / 320))
    margin = width + 2
    for index in painted.present:
        mask = (painted.numbers == index).view(np.uint8)
        # Extended beyond the picture, so that the picture's edge is not drawn as the region's.
        mask = cv2.copyMakeBorder(mask, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
        contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(-margin, -margin))
        # The contour follows the label map's cells in steps; a little tolerance smooths them.
        smooth = [cv2.approxPolyDP(contour, _STEP, closed=True) for contour in contours]
        colour = painted.palette[index].tolist()
        cv2.polylines(canvas, smooth, isClosed=True, color=colour, thickness=width, lineType=cv2.LINE_AA)


def _text_size(image: Image) -> int:
    return int(np.clip(round(min(image.shape[:2]) / 28), 11, 40))


def _regions(painted: ColourMap, size: tuple[int, int]) -> list[tuple[int, npt.NDArray[np.uint8]]]:
    """Number and mask, at `size` (width, height), of the connected regions large enough to be named, largest first."""
    numbers = cv2.resize(painted.numbers, size, interpolation=cv2.INTER_NEAREST)
    found = []
    for index in np.flatnonzero(pixel_counts(numbers, len(painted.palette)) >= _SMALLEST_NAMED * numbers.size):
        mask = (numbers == index).view(np.uint8)
        _, parts, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
        areas = stats[1:, cv2.CC_STAT_AREA]
        largest = np.argsort(-areas, kind="stable")[: painted.most_named[index]]
        found += [
            (int(areas[part]), int(index), (parts == part + 1).view(np.uint8))
            for part in largest
            if areas[part] >= _SMALLEST_NAMED * numbers.size
        ]
    found.sort(key=lambda region: -region[0])
    return [(index, mask) for _, index, mask in found]


def _names(canvas: Image, painted: ColourMap, size: int, taken: list[Box]) -> None:
    """Write each region's name at the point farthest inside it where it covers no earlier text."""
    palette = painted.palette
    height, width = canvas.shape[:2]
    shrink = min(1.0, _ANALYSED / max(height, width))
    small_size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    for index, mask in _regions(painted, small_size):
        text = drawable(painted.names[index])
        pad = size // 3
        box_width, box_height = text_width(text, size) + 2 * pad, size + pad
        if box_width > width or box_height > height:
            continue
        # Points whose box would touch another are excluded; the border makes the picture's edge count as outside.
        inside = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
        for x0, y0, x1, y1 in taken:
            left, right = (x0 - box_width / 2) * shrink, (x1 + box_width / 2) * shrink
            top, bottom = (y0 - box_height / 2) * shrink, (y1 + box_height / 2) * shrink
            depth[max(0, int(top)) : max(0, int(bottom) + 1), max(0, int(left)) : max(0, int(right) + 1)] = 0
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[y, x] == 0:
            continue
        x0 = int(np.clip((x + 0.5) / shrink - box_width / 2, 0, width - box_width))
        y0 = int(np.clip((y + 0.5) / shrink - box_height / 2, 0, height - box_height))
        box = (x0, y0, x0 + box_width, y0 + box_height)
        if any(overlap(box, other) for other in taken):  # pushed there by the picture's edge
            continue
        taken.append(box)
        rounded(canvas, box, palette[index].tolist(), size // 4)
        base = y0 + round(box_height / 2 + size * 0.33)
        draw_text(canvas, text, (x0 + pad, base), size, text_colour(palette[index]))


def _legend(canvas: Image, classes: tuple[str, ...], painted: ColourMap, size: int) -> list[Box]:
    """Every class with its share, those that were found first. Returns the panel's box."""
    shares = np.where(painted.hidden, 0, painted.shares)
    order = sorted(range(len(shares)), key=lambda index: (-float(shares[index] > 0), index))
    line, pad = round(size * 1.45), round(size * 0.6)
    room = (canvas.shape[0] // 2 - 2 * pad) // line
    shown = order[: max(0, min(_MOST_LISTED, room))]
    if not shown:
        return []
    palette = painted.class_palette
    texts = [drawable(classes[index]) for index in shown]
    figures = [
        "off" if painted.hidden[index] else f"{share:.0%}" if share >= 0.005 else "<1%" if share else "-"
        for index, share in zip(shown, shares[shown], strict=True)
    ]
    if len(order) > len(shown):
        texts[-1], figures[-1] = f"and {len(order) - len(shown) + 1} more", ""
    name_width = max(text_width(text, size) for text in texts)
    figure_width = max(text_width(figure, size) if figure else 0 for figure in figures)
    width = size + pad // 2 + name_width + pad + figure_width + 2 * pad
    if width > canvas.shape[1]:
        return []
    box = (pad, pad, pad + width, pad + line * len(shown) + pad)
    panel(canvas, box, size // 3)
    for row, (index, text, figure) in enumerate(zip(shown, texts, figures, strict=True)):
        top = box[1] + pad // 2 + row * line
        base = top + round(line / 2 + size * 0.33)
        colour = (245, 245, 245) if shares[index] else (150, 150, 150)
        if figure:
            swatch = (box[0] + pad, top + (line - size) // 2, box[0] + pad + size, top + (line + size) // 2)
            rounded(canvas, swatch, palette[index].tolist(), size // 4)
            draw_text(canvas, figure, (box[2] - pad - text_width(figure, size), base), size, colour)
        draw_text(canvas, text, (box[0] + pad + size + pad // 2 + 1, base), size, colour)
    return [box]


def banner(image: Image, text: str) -> Image:
    """A darkened copy of `image` with `text` across its middle, for a source that is lost."""
    canvas: Image = cv2.convertScaleAbs(image, alpha=0.5)
    size = _text_size(image)
    width = canvas.shape[1]
    text = drawable(text, _LONGEST_BANNER)
    while size > 6 and text_width(text, size) > width - size:
        size -= 1
    middle = canvas.shape[0] // 2
    panel(canvas, (0, middle - size, width, middle + size), 0)
    place = (max(0, (width - text_width(text, size)) // 2), middle + round(size * 0.33))
    draw_text(canvas, text, place, size, (245, 245, 245))
    return canvas


def write_lines(image: Image, lines: Sequence[str]) -> Image:
    """A copy of `image` with `lines` on a dark ground along its lower edge; of a line too long, its end."""
    canvas = image.copy()
    height, width = canvas.shape[:2]
    size = _text_size(image)
    step, pad = round(size * 1.45), round(size * 0.6)
    top = max(0, height - step * len(lines) - 2 * pad)
    panel(canvas, (0, top, width, height), 0)
    for row, line in enumerate(lines):
        text = drawable(line, _LONGEST_BANNER)
        while len(text) > 1 and text_width(text, size) > width - 2 * pad:
            text = text[1:]
        draw_text(canvas, text, (pad, top + pad + row * step + round(step / 2 + size * 0.33)), size, (245, 245, 245))
    return canvas


def _figures(status: Status) -> str:
    """The frame rate; for a live source also the frame age and the number of stale frames dropped."""
    figures = []
    if status.fps is not None:
        figures.append(f"{status.fps:.1f} FPS" if status.fps < 100 else f"{status.fps:.0f} FPS")
        if status.age_ms is not None:
            figures.append(f"{status.age_ms:.0f} ms")
            if status.dropped:
                figures.append(f"{status.dropped} dropped")
    return "  ".join(figures)


def _corner(canvas: Image, text: str, size: int) -> Box:
    """Write `text` at the top right; returns the panel's box."""
    pad = round(size * 0.6)
    width = text_width(text, size) + 2 * pad
    box = (canvas.shape[1] - pad - width, pad, canvas.shape[1] - pad, pad + round(size * 1.45) + pad // 2)
    panel(canvas, box, size // 3)
    draw_text(canvas, text, (box[0] + pad, round((box[1] + box[3]) / 2 + size * 0.33)), size, (245, 245, 245))
    return box
