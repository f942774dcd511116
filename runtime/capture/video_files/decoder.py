"""What a video is decoded with: PyAV if it is installed, else OpenCV."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..source import Sound
from .pyav import pyav

STDIN = "-"

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR, upright


class VideoDecoder(Protocol):
    """One opened video."""

    fps: float  # mean rate
    total: int | None  # frames, or about so many
    promised: int | None  # frames that the file's index lists; None where it lists none
    sound: Sound | None
    skipped: int  # frames that did not decode, so far
    broken: str | None  # why reading ended before the end, once it has

    def read(self) -> tuple[Image, float] | None:
        """The next frame that decodes and its time in seconds on the file's clock; None at the end."""
        ...

    def close(self) -> None:
        """Free the decoder."""
        ...


def open_decoder(place: str) -> VideoDecoder:
    """Open a file, a pipe's path, an http address, or "-" for standard input. Raises `SourceError`."""
    av = pyav()
    if av is not None:
        from .pyav_decoder import PyavDecoder

        return PyavDecoder(av, place)
    from .opencv_decoder import OpencvDecoder

    return OpencvDecoder(place)
