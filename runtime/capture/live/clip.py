"""A video file in place of a camera: played in a loop at its own rate, and read to its newest frame."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ....bundle.errors import SourceError, UsageError
from ...opencv import cv2
from ..options import CaptureOptions, refuse_photo_options
from ..video_files.failures import refuse_lists, why_unreadable
from ..video_files.opencv_path import opencv_path
from .live_source import LiveSource


class LoopedClip:
    """A `Capture` that plays a clip in a loop."""

    def __init__(self, path: Path, *, unpaced: bool = False) -> None:
        """`unpaced` gives frames as fast as they decode. Raises `SourceError` for what is not there or no video."""
        if not path.is_file():  # it was there before: a clip is opened again after a break
            raise SourceError(f"there is no file {str(path)!r} any more")
        self._path = path
        self._capture = _opened(path)
        self._period = 0.0 if unpaced else 1 / max(self._capture.get(cv2.CAP_PROP_FPS), 1.0)
        self._due = time.monotonic()
        if not self._capture.isOpened():
            raise SourceError(why_unreadable(str(path), str(path), str(path)))

    def read(self) -> tuple[bool, Any]:
        """The next frame of the clip, at its time; after the last frame comes the first."""
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = max(self._due + self._period, time.monotonic())
        read, image = self._capture.read()
        if not read:
            self._capture.release()
            self._capture = _opened(self._path)
            read, image = self._capture.read()
        return bool(read), image

    def get(self, prop: int) -> float:
        """See `cv2.VideoCapture`."""
        return float(self._capture.get(prop))

    def release(self) -> None:
        """Free the decoder."""
        self._capture.release()


def _opened(path: Path) -> Any:
    with opencv_path(path) as name:
        return cv2.VideoCapture(name)


def open_clip(path: Path, options: CaptureOptions) -> LiveSource:
    """The newest frame of the clip at `path`, which goes on for ever. Raises `SourceError`, `UsageError`."""
    refuse_photo_options(options)
    if options.shape:
        raise UsageError("a clip has the size and rate it was made with; leave out --size, --rate and --mjpg")
    refuse_lists(path)
    source = LiveSource(
        path.name,
        lambda: LoopedClip(path),
        flip=options.flip_code,
        reconnect=options.reconnect,
        most_fps=options.most_fps,
    )
    source.files = (path,)
    return source
