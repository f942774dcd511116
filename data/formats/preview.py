"""A contact sheet: photos with their labels over them, to see at a glance whether labels lie where they should."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...bundle.errors import DatasetError
from ...runtime.draw.palette import colours
from ...runtime.draw.text import draw_text, drawable
from ...runtime.opencv import cv2
from ..labelled import VOID
from .convert import load_annotated
from .label_format import FormatSet, LabelFormat
from .writers.layout import LoadedPhoto

TILE = (320, 240)  # width, height in pixels, above the photo's name
COLUMNS = 4
_OPACITY = 0.55
_LINE = 20  # pixels of height of a line of the legend

Picture = npt.NDArray[np.uint8]  # (H, W, 3) BGR


def contact_sheet(photos: FormatSet, label_format: LabelFormat, count: int) -> Picture:
    """`count` photos, spread over the set, and a legend of the classes. Raises `DatasetError` if none can be read."""
    palette = colours(photos.classes)
    tiles: list[Picture] = []
    shown: set[int] = set()
    problem = f"{label_format.title}: there is no photo with labels"
    step = max(1, len(photos.photos) // max(1, count))
    for photo in photos.photos[::step]:
        if len(tiles) == count:
            break
        try:
            loaded = load_annotated(photo, label_format)
        except DatasetError as error:
            problem = str(error)
            continue
        labels = loaded.painted.labels
        shown |= set(np.unique(labels[labels != VOID]).tolist())
        tiles.append(_tile(overlay(loaded, palette), photo.name))
    if not tiles:
        raise DatasetError(problem)
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % COLUMNS if len(tiles) > COLUMNS else 0)
    width = min(COLUMNS, len(tiles))
    rows = [np.hstack(tiles[start : start + width]) for start in range(0, len(tiles), width)]
    legend = _legend([photos.classes[index] for index in sorted(shown)], palette[sorted(shown)], width * TILE[0])
    return np.asarray(np.vstack([*rows, legend]), np.uint8)


def overlay(loaded: LoadedPhoto, palette: npt.NDArray[np.uint8]) -> Picture:
    """The photo (H, W, 3) BGR with each class in its colour; background is hatched, what is unlabelled as it is."""
    labels, background = loaded.painted.labels, loaded.painted.background
    table = np.concatenate((palette, np.zeros((1, 3), np.uint8)))  # VOID, -1, is the last
    result = loaded.image.astype(np.float32)
    named = labels != VOID
    result[named] = (1 - _OPACITY) * result[named] + _OPACITY * table[labels[named]]
    if background is not None:
        rows, columns = np.ogrid[: labels.shape[0], : labels.shape[1]]
        result[background & ((rows + columns) % 12 == 0)] = 0
    return np.asarray(result.round(), np.uint8)


def _tile(picture: Picture, name: str) -> Picture:
    width, height = TILE
    factor = min(width / picture.shape[1], height / picture.shape[0])
    size = max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))
    tile = np.full((height + _LINE, width, 3), 255, np.uint8)
    tile[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    draw_text(tile, drawable(name, 40), (4, height + _LINE - 6), 13, (0, 0, 0))
    return tile


def _legend(names: Sequence[str], palette: npt.NDArray[np.uint8], width: int) -> Picture:
    columns = max(1, width // 200)
    lines = -(-len(names) // columns)
    legend = np.full((max(1, lines) * _LINE + 8, width, 3), 255, np.uint8)
    for place, (name, colour) in enumerate(zip(names, palette, strict=True)):
        x, y = place % columns * 200 + 6, place // columns * _LINE + 4
        legend[y : y + _LINE - 5, x : x + _LINE - 5] = colour
        draw_text(legend, drawable(name, 24), (x + _LINE, y + _LINE - 8), 13, (0, 0, 0))
    return legend
