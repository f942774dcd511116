"""What the configuration of a camera names: its source, and its files of classes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from ...bundle.files import read_bounded
from ..capture.registry import open_source
from ..capture.source import Source
from ..frame import Frame
from .config import CameraConfig

_MOST_BYTES = 64 * 2**20  # of a file of classes; larger ones are refused where they are read


def open_camera(config: CameraConfig) -> Source:
    """The source of a camera, live: a video file is played in a loop. Raises `SourceError`, `UsageError`."""
    return open_source(camera=config.source, options=replace(config.capture, most_fps=config.max_fps))


class Timeline:
    """Numbers and times of a camera's frames: they go on when its source, or the camera itself, is opened again."""

    def __init__(self) -> None:
        self._first = 0  # number of the present source's first frame
        self._next = 0
        self._time = 0.0  # of the last frame
        self._origin: float | None = None  # time.monotonic() at time 0

    def open(self) -> None:
        """Frames of a source that was opened anew follow."""
        self._first = self._next

    def place(self, frame: Frame) -> Frame:
        """`frame` of the present source, with its number, time and name among all of the camera."""
        if self._origin is None:
            self._origin = frame.captured - frame.time
        index = self._first + frame.index
        if self._first:
            passed = max(self._time, frame.captured - self._origin)
            frame = replace(frame, index=index, time=passed, name=f"live_{index:06d}")
        self._next, self._time = index + 1, frame.time
        return frame


def class_digest(config: CameraConfig) -> str:
    """What changes with the contents of the camera's class files. A pipe is not read: that would take its contents."""
    digest = hashlib.sha256()
    for path in config.class_files:
        try:
            contents = read_bounded(path, _MOST_BYTES) if path.is_file() else b""
        except OSError:
            contents = b""
        digest.update(b"%d:" % len(contents) + contents)
    return digest.hexdigest()
