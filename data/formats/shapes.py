"""Painting polygons, rectangles, circles and run lengths.

A pixel belongs to an outline when its centre lies inside: the pixel in column x, row y has its centre at
(x + 0.5, y + 0.5), the picture's corner being (0, 0), as in COCO, LabelMe and CVAT.
"""

from __future__ import annotations

import base64
import binascii
import io
import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...bundle.errors import DatasetError
from ...runtime.opencv import cv2
from .label_format import Size

Mask = npt.NDArray[np.bool_]
_MOST_POINTS = 200_000  # of one outline
_FARTHEST = 1e7  # pixels
_MOST_PIXELS = 2**28  # of a mask that a file describes


def fill(outlines: Sequence[Sequence[float]], size: Size) -> Mask:
    """Pixels (H, W) inside outlines [x1, y1, x2, y2, …]; where outlines overlap, even times inside is outside.

    Raises `DatasetError` for what is no outline.
    """
    height, width = size
    toggles = np.zeros((height, width + 1), np.int32)
    for outline in outlines:
        points = _points(outline)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, 0), strict=True):
            low, high = sorted((y1, y2))
            rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(height, int(np.ceil(high - 0.5))))
            if rows.size:
                crossing = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
                columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
                np.add.at(toggles, (rows, columns), 1)
    inside: Mask = np.cumsum(toggles[:, :width], 1) % 2 == 1
    return inside


def _points(outline: Sequence[float] | Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """(N, 2) x, y."""
    try:
        points = np.asarray(outline, np.float64).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"an outline is not a list of x, y ({error})") from error
    if len(points) > _MOST_POINTS or not (np.abs(points) < _FARTHEST).all():
        raise DatasetError(f"an outline has {len(points)} points, or one that is no place in a picture")
    return points


def fill_pixels(outline: Sequence[Sequence[float]], size: Size) -> Mask:
    """Pixels (H, W) inside an outline [[x, y], …] of pixels, and the outline itself. Raises `DatasetError`."""
    points = _points(outline)
    canvas = np.zeros(size, np.uint8)
    if len(points):
        cv2.fillPoly(canvas, [points.round().clip(-(2**20), 2**20).astype(np.int32)], 1)
    return np.asarray(canvas, np.bool_)


def rectangle(x1: float, y1: float, x2: float, y2: float, size: Size) -> Mask:
    """Pixels (H, W) inside the rectangle of two opposite corners."""
    return fill([[x1, y1, x2, y1, x2, y2, x1, y2]], size)


def circle(x: float, y: float, radius: float, size: Size) -> Mask:
    """Pixels (H, W) whose centre is within `radius` of (x, y)."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    inside: Mask = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2
    return inside


def decode_runs(counts: Sequence[int] | str, size: Size) -> Mask:
    """COCO's run lengths, column by column, starting with the pixels outside: a list, or its compressed text.

    Raises `DatasetError` for runs that do not fill the picture.
    """
    runs = _uncompressed(counts) if isinstance(counts, str) else counts
    return _from_runs(runs, size, "F")


def row_runs(counts: Sequence[int], size: Size) -> Mask:
    """CVAT's run lengths, row by row, starting with the pixels outside. Raises `DatasetError`."""
    return _from_runs(counts, size, "C")


def _from_runs(runs: Sequence[int], size: Size, order: str) -> Mask:
    try:
        lengths = np.asarray(runs, np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"run lengths are no numbers ({error})") from error
    if lengths.ndim != 1 or (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise DatasetError(f"run lengths cover {int(lengths.sum())} pixels, expected {size[1]}x{size[0]}")
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.asarray(flat.reshape(size, order="F" if order == "F" else "C"), np.bool_)


def _uncompressed(text: str) -> list[int]:
    """COCO's compressed runs: base-32 digits from "0", six bits a character; from the third on differences of two."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > 60:
            raise DatasetError(f"compressed run lengths hold {character!r}; copy the file again")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            if digit & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return runs


def encoded_bitmap(data: str, *, deflated: bool = False) -> Mask:
    """A mask (H, W) as base64 of a PNG, in Supervisely's files deflated first: where it is opaque and not 0.

    Raises `DatasetError`.
    """
    try:
        content = base64.b64decode(data, validate=False)
        if deflated:
            unpacker = zlib.decompressobj()
            content = unpacker.decompress(content, _MOST_PIXELS)
        with Image.open(io.BytesIO(content)) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise DatasetError(f"a bitmap has {picture.width}x{picture.height} pixels")
            values = np.asarray(picture.convert("RGBA") if picture.mode in ("P", "LA", "RGBA") else picture)
    except (
        binascii.Error,
        zlib.error,
        OSError,
        ValueError,
        SyntaxError,
        TypeError,
        Image.DecompressionBombError,
    ) as error:
        raise DatasetError(f"a bitmap cannot be decoded ({error})") from error
    if values.ndim == 3 and values.shape[2] == 4:
        return np.asarray((values[..., 3] > 0) & (values[..., :3] > 0).any(-1), np.bool_)
    return np.asarray((values > 0).any(-1) if values.ndim == 3 else values > 0, np.bool_)


def paste(mask: Mask, left: int, top: int, size: Size) -> Mask:
    """`mask` at a place within a picture of `size`; what lies outside is cut."""
    result = np.zeros(size, np.bool_)
    if top >= size[0] or left >= size[1]:
        return result
    y, x = max(0, top), max(0, left)
    part = mask[y - top : size[0] - top, x - left : size[1] - left]
    result[y : y + part.shape[0], x : x + part.shape[1]] = part
    return result
