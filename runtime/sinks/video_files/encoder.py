"""What a video is encoded with: PyAV if it is installed, else OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...capture.source import Sound
from ...capture.video_files.pyav import HINT, pyav


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
    warn: Callable[[str], None]  # is told what it will lack


def open_encoder(video: VideoFormat) -> VideoEncoder:
    """Start a file. Raises `SinkError` where there is no encoder for it."""
    av = pyav()
    if av is not None and video.suffix != ".avi":  # AVI has no time stamps, and nothing that browsers play
        from .pyav_encoder import PyavEncoder

        return PyavEncoder(av, video)
    from .opencv_encoder import OpencvEncoder

    if av is None and video.live and video.suffix != ".mkv":
        video.warn(
            f"without PyAV a {video.suffix} recording cannot be played if this process is killed; {HINT}, or save as "
            ".mkv"
        )
    elif av is None:
        video.warn(
            f"without PyAV the video is MPEG-4 Part 2 at a constant {video.fps:.4g} FPS, without sound, and some "
            f"browsers do not play it; {HINT} gives H.264, the source's own times, and sound"
        )
    elif video.sound is not None:
        video.warn("the sound is not copied: .avi is written without; save as .mp4 or .mkv")
    return OpencvEncoder(video)
