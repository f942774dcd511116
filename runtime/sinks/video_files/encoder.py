"""What every video encoder offers, and the format it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...capture.source import Sound


class VideoEncoder(Protocol):
    """Writes one video file."""

    def add(self, picture: npt.NDArray[np.uint8], time: float) -> None:
        """Take a picture (H, W, 3) BGR, always of the same even size, shown from `time` on (seconds from 0, rising).

        Raises `SinkError`, `OSError`.
        """
        ...

    def close(self) -> None:
        """Complete the file. Raises `SinkError`, `OSError`."""
        ...


@dataclass(frozen=True)
class VideoFormat:
    """How a video is written."""

    path: Path  # the file to write, which exists
    suffix: str  # in lower case, ".mp4"
    size: tuple[int, int]  # height, width; both even
    fps: float  # nominal rate of the pictures
    live: bool  # a recording that cannot be made again
    sound: Sound | None  # to be copied into it
    warn: Callable[[str], None]  # called with what the file will lack
