"""What a user can ask of a source."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from enum import Enum

from ...bundle.errors import UsageError

_LARGEST = 16384  # pixels of a side
_SLOWEST, _FASTEST = 0.001, 1000.0  # frames a second


class Flip(str, Enum):
    """How the pictures of a camera are mirrored."""

    NONE = "none"
    HORIZONTAL = "horizontal"  # left becomes right
    VERTICAL = "vertical"  # upside down
    BOTH = "both"  # turned by 180 degrees


_FLIP_CODES: dict[Flip, int | None] = {Flip.NONE: None, Flip.HORIZONTAL: 1, Flip.VERTICAL: 0, Flip.BOTH: -1}  # OpenCV's


@dataclass(frozen=True)
class CaptureOptions:
    """Options of sources; None is the device's own choice."""

    size: tuple[int, int] | None = None  # width, height in pixels
    rate: float | None = None  # frames a second
    mjpg: bool = False  # compressed by the camera: USB 2 carries 1080p at 30 Hz only so
    flip: Flip = Flip.NONE
    reconnect: bool = True  # a lost source is opened again; else its loss ends the run
    fps: float | None = None  # photos: so many count as a second; None: one
    recursive: bool = False  # photos: also those in sub-folders
    most_fps: float | None = None  # live: so many frames a second are decoded at most

    def __post_init__(self) -> None:
        if self.size is not None and not all(1 <= side <= _LARGEST for side in self.size):
            raise UsageError(f"the size is {self.size[0]}x{self.size[1]}, expected sides from 1 to {_LARGEST} pixels")
        if self.rate is not None and not (math.isfinite(self.rate) and 0 < self.rate <= _FASTEST):
            raise UsageError(f"the rate is {self.rate:g}, expected up to {_FASTEST:g} frames a second")
        if self.fps is not None and not (math.isfinite(self.fps) and _SLOWEST <= self.fps <= _FASTEST):
            raise UsageError(
                f"the rate of photos is {self.fps:g}, expected {_SLOWEST:g} to {_FASTEST:g} frames a second"
            )
        try:
            object.__setattr__(self, "flip", Flip(self.flip))  # also given as text
        except ValueError as error:
            choices = " ".join(choice.value for choice in Flip)
            raise UsageError(f"the flip is {self.flip!r}, expected one of: {choices}") from error

    @property
    def flip_code(self) -> int | None:
        """For `cv2.flip`; None for no flip."""
        return _FLIP_CODES[self.flip]

    @property
    def shape(self) -> bool:
        """Whether the pictures' size, rate or format is asked for, which only a camera can grant."""
        return self.size is not None or self.rate is not None or self.mjpg


def refuse_live_options(options: CaptureOptions) -> None:
    """Raise `UsageError` where a recording was given an option that only a camera or stream has."""
    if replace(options, fps=None, recursive=False) != CaptureOptions():
        raise UsageError(
            "--size, --rate, --mjpg, --flip and --no-reconnect are for cameras and streams; leave them out"
        )


def refuse_photo_options(options: CaptureOptions) -> None:
    """Raise `UsageError` where anything but photos was given an option that only photos have."""
    if options.fps is not None or options.recursive:
        raise UsageError("--fps and --recursive are for photos; leave them out (a camera's rate is set by --rate)")


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of "1280x720"; raises `UsageError` for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text.strip())
    if found is None:
        raise UsageError(f"the size is {text[:40]!r}, expected WIDTHxHEIGHT such as 1280x720")
    return int(found[1]), int(found[2])
