"""What a user can ask of a camera."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, get_args

from ...bundle.errors import UsageError

Flip = Literal["none", "horizontal", "vertical", "both"]
_LARGEST = 16384  # pixels of a side
_FASTEST = 1000.0  # frames a second
_FLIP_CODES: dict[Flip, int | None] = {"none": None, "horizontal": 1, "vertical": 0, "both": -1}  # OpenCV's


@dataclass(frozen=True)
class CaptureOptions:
    """Options of live sources; None is the device's own choice."""

    size: tuple[int, int] | None = None  # width, height in pixels
    rate: float | None = None  # frames a second
    mjpg: bool = False  # compressed by the camera: USB 2 carries 1080p at 30 Hz only so
    flip: Flip = "none"  # horizontal: left becomes right; both: turned by 180 degrees
    reconnect: bool = True  # a lost source is opened again; else its loss ends the run

    def __post_init__(self) -> None:
        if self.size is not None and not all(1 <= side <= _LARGEST for side in self.size):
            raise UsageError(f"the size is {self.size[0]}x{self.size[1]}, expected sides from 1 to {_LARGEST} pixels")
        if self.rate is not None and not (math.isfinite(self.rate) and 0 < self.rate <= _FASTEST):
            raise UsageError(f"the rate is {self.rate:g}, expected up to {_FASTEST:g} frames a second")
        if self.flip not in get_args(Flip):
            raise UsageError(f"the flip is {self.flip!r}, expected one of: {' '.join(get_args(Flip))}")

    @property
    def flip_code(self) -> int | None:
        """For `cv2.flip`; None for no flip."""
        return _FLIP_CODES[self.flip]

    @property
    def shape(self) -> bool:
        """Whether the pictures' size, rate or format is asked for, which only a camera can grant."""
        return self.size is not None or self.rate is not None or self.mjpg


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of "1280x720"; raises `UsageError` for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text.strip())
    if found is None:
        raise UsageError(f"the size is {text[:40]!r}, expected WIDTHxHEIGHT such as 1280x720")
    return int(found[1]), int(found[2])
