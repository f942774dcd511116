"""Video files by OpenCV: MPEG-4 Part 2 or Motion JPEG at a constant rate, without sound."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from ....bundle.errors import SinkError
from ...capture.video_files.opencv_path import opencv_path
from ...opencv import cv2
from ..output_files import mark_by_attribute, mark_video
from .encoder import VideoFormat

_CODECS = {".avi": "MJPG"}
_USUAL_CODEC = "mp4v"  # H.264 needs a licence, so OpenCV's wheels cannot write it
_MOST_PARTS = 65_535  # of a second, in MPEG-4


class OpencvEncoder:
    """A `VideoEncoder`: a picture is repeated until the time of the next one, at a constant rate."""

    def __init__(self, video: VideoFormat) -> None:
        """Raises `SinkError` where OpenCV has no encoder for it."""
        self._video = video
        self._fps = writable_rate(video.fps)
        self._last: npt.NDArray[np.uint8] | None = None
        self._frames = 0
        codec = _CODECS.get(video.suffix, _USUAL_CODEC)
        height, width = video.size
        self._opened = ExitStack()
        name = self._opened.enter_context(opencv_path(video.path))
        self._writer: Any = cv2.VideoWriter(name, cv2.VideoWriter_fourcc(*codec), self._fps, (width, height))
        if not self._writer.isOpened():
            self._opened.close()
            raise SinkError(
                f"OpenCV cannot open {video.path.name} as a {codec} video of {width}x{height}; "
                "try .mp4 or .avi, or save to a folder"
            )
        mark_by_attribute(video.path)

    def add(self, picture: npt.NDArray[np.uint8], time: float) -> None:
        """Encode a picture, after the last one as often as its time asks for. One that comes too soon is left out."""
        due = round(time * self._fps)
        if due < self._frames:
            return
        while self._last is not None and self._frames < due:
            self._write(self._last)
        self._write(picture)
        self._last = picture

    def close(self) -> None:
        """Write the index, and check that the file plays to its end."""
        self._writer.release()
        try:
            if not self._plays():
                raise SinkError(
                    f"cannot write {self._video.path}: its {self._frames} frames did not all arrive in the file; "
                    "free some space, or choose another place or format"
                )
            mark_video(self._video.path)
        finally:
            self._opened.close()

    def _write(self, picture: npt.NDArray[np.uint8]) -> None:
        self._writer.write(picture)
        self._frames += 1

    def _plays(self) -> bool:
        """Whether every frame is there. Encoders report a failed write to nobody; the index, written last, tells."""
        with opencv_path(self._video.path) as name:
            capture = cv2.VideoCapture(name)
            count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
            capture.set(cv2.CAP_PROP_POS_FRAMES, self._frames - 1)
            read, _ = capture.read()
            capture.release()
        return bool(read) and count >= self._frames


def writable_rate(fps: float) -> float:
    """`fps` with as many digits as it may have: MPEG-4 counts time in at most 65535 parts of a second.

    OpenCV writes a rate as a fraction over 1, 10, 100 or 1000, and the file takes the numerator for those parts.
    """
    return next((round(fps, digits) for digits in (3, 2, 1) if fps * 10**digits < _MOST_PARTS), fps)
