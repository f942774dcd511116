"""What a user shows in a picture: a mask, a box, or a point, as text and as pixels.

#mask.png    a picture of the same size; pixels above half of its range belong to the region
#x,y,w,h     a box in pixels
#x,y         a point; the region under it is found in the network's features
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ...bundle.strict import is_integer, shown
from ..capture.photos import read_photo
from ..opencv import cv2

Mask = npt.NDArray[np.bool_]  # (H, W) of a frame
Box = tuple[float, float, float, float]  # x, y, width, height in pixels
Point = tuple[float, float]  # x, y in pixels

_NUMBER = r"\s*([0-9]{1,6}(?:\.[0-9]{0,6})?)\s*"
_NUMBERS = re.compile(rf"{_NUMBER},{_NUMBER}(?:,{_NUMBER},{_NUMBER})?")


@dataclass(frozen=True)
class ShownRegion:
    """A part of a picture; one of the three."""

    mask: Mask | None = None  # (H, W) of the picture
    box: Box | None = None
    point: Point | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("mask", "box", "point") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError(f"{' and '.join(given) or 'no region'} given, expected one of mask, box or point")
        for name, value, parts in (("box", self.box, "x, y, width, height"), ("point", self.point, "x, y")):
            numbers = isinstance(value, Sequence | np.ndarray) and all(map(_is_number, value))
            if value is not None and not (numbers and len(value) == parts.count(",") + 1):
                raise UsageError(f"the {name} is {shown(value)}, expected {parts} in pixels")


def _is_number(value: object) -> bool:
    return is_integer(value) if isinstance(value, int) else isinstance(value, Real)


def parse_region(text: str, photo: Path) -> ShownRegion:
    """The region that stands behind `#`; a mask's path is relative to the working folder, or lies beside `photo`.

    Raises `UsageError`, `SourceError`.
    """
    found = _NUMBERS.fullmatch(text)
    if found is not None:
        numbers = [float(part) for part in found.groups() if part is not None]
        if len(numbers) == 2:
            return ShownRegion(point=(numbers[0], numbers[1]))
        return ShownRegion(box=(numbers[0], numbers[1], numbers[2], numbers[3]))
    path = Path(text)
    if not os.path.isfile(path) and os.path.isfile(photo.parent / text):
        path = photo.parent / text
    if not os.path.isfile(path):  # also of a name that the system does not take
        raise UsageError(f"the region {text[:80]!r} is no file and no numbers; expected #mask.png, #x,y,w,h or #x,y")
    mask = read_photo(path).max(axis=2)
    if mask.max() <= 127:
        raise UsageError(
            f"the mask {path} is empty: its brightest pixel is {mask.max()} of 255, and those above 127 are the region; "
            "paint the region white"
        )
    return ShownRegion(mask=mask > 127)


def mask_array(mask: npt.ArrayLike) -> npt.NDArray[Any]:
    """A mask as an array, of whatever shape and type. Raises `UsageError`."""
    try:
        return np.asarray(mask)
    except (ValueError, TypeError) as error:  # rows of different lengths, a tensor of another device
        raise UsageError(f"the mask is no array ({error}); expected one value for each pixel of the picture") from error


def as_mask(mask: npt.ArrayLike, size: tuple[int, int]) -> Mask:
    """A mask (H, W) of bool or numbers, of which those above 0 count, for a picture of `size`. Raises `UsageError`."""
    array = mask_array(mask)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 or array.shape != size or array.dtype.kind not in "buif":
        raise UsageError(
            f"the mask is {array.dtype} {list(array.shape)}, expected one value for each pixel of the picture: "
            f"{list(size)}"
        )
    inside: Mask = array > 0
    if not inside.any():
        raise UsageError("the mask is empty; draw the region that is to be found")
    return inside


def box_mask(box: Box, size: tuple[int, int]) -> Mask:
    """The pixels (H, W) of a box, cut to a picture of `size`. Raises `UsageError` for a box outside of it."""
    x, y, width, height = box
    if not all(np.isfinite(box)) or width <= 0 or height <= 0:
        raise UsageError(f"the box {_shown(box)} has no area, expected x,y,width,height in pixels")
    left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
    right, bottom = min(size[1], int(np.ceil(x + width))), min(size[0], int(np.ceil(y + height)))
    if left >= right or top >= bottom:
        raise UsageError(f"the box {_shown(box)} lies outside the picture of {size[1]}x{size[0]} pixels")
    inside = np.zeros(size, np.bool_)
    inside[top:bottom, left:right] = True
    return inside


def pixel_of(point: Point, size: tuple[int, int]) -> tuple[int, int]:
    """Column and row of a point. Raises `UsageError` for one outside of a picture of `size`."""
    x, y = point
    if not (0 <= x < size[1] and 0 <= y < size[0]):
        raise UsageError(f"the point {_shown(point)} lies outside the picture of {size[1]}x{size[0]} pixels")
    return int(x), int(y)


def outlines(mask: Mask) -> list[list[list[int]]]:
    """Outer outlines of a mask, each a list of [x, y] in pixels, largest first."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    ordered = sorted(found, key=lambda contour: -float(cv2.contourArea(contour)))
    return [contour.reshape(-1, 2).tolist() for contour in ordered]


def _shown(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
