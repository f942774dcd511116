"""Recording on demand: started and stopped while frames go on, into video files of their own."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....bundle.errors import OvsError
from ...frame import Frame
from ...inference.prediction import Prediction
from ...status import Status
from .video_sink import VideoSink

_USUAL_RATE = 10.0  # frames a second where none is known yet
_HIGHEST_RATE = 30.0


class Recorder:
    """Writes annotated pictures to `folder` between `start` and `stop`, at the speed at which they were seen.

    A recording that fails ends, and what it has is kept; the stream goes on.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._sink: VideoSink | None = None
        self._starting = False  # whether the first picture has not come yet
        self._name = ""
        self._begun = 0.0  # time.monotonic() at `start`
        self.made: dict[str, Path] = {}  # name -> place of each recording that is complete
        self.error: str | None = None  # why the last recording failed

    @property
    def seconds(self) -> float | None:
        """How long the recording has been going on; None if there is none."""
        with self._lock:
            on = self._starting or self._sink is not None
            return time.monotonic() - self._begun if on else None

    def start(self) -> None:
        """Record from the next picture on; nothing happens while a recording is going on."""
        with self._lock:
            if not self._starting and self._sink is None:
                self._begun, self.error, self._starting = time.monotonic(), None, True

    def stop(self) -> str | None:
        """Complete the recording; its name in `made`, or None if there was none. Raises `SinkError`."""
        with self._lock:
            sink, self._sink, self._starting = self._sink, None, False
            name = self._name
        if sink is None:
            return None
        try:
            sink.finish()
        except OvsError as error:
            self.error = str(error)
            raise
        finally:
            self._close(sink)
        return name

    def write(self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8], status: Status) -> None:
        """Take a picture (H, W, 3) BGR; does nothing unless a recording is going on."""
        with self._lock:
            try:
                if self._starting:
                    self._starting = False
                    self._sink = self._open(min(status.fps or _USUAL_RATE, _HIGHEST_RATE))
                if self._sink is not None:
                    self._sink.write(frame, prediction, picture, status)
            except (OvsError, OSError) as error:
                self.error = str(error)
                if self._sink is not None:
                    self._close(self._sink)
                self._sink = None

    def close(self) -> None:
        """Complete what is being recorded."""
        with suppress(OvsError):  # `error` says so; the run ends either way
            self.stop()

    def _open(self, rate: float) -> VideoSink:
        self._name = _reserved_name(self._folder)
        path = self._folder / self._name
        try:
            return VideoSink(path, rate, live=True, warn=lambda text: None)
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise

    def _close(self, sink: VideoSink) -> None:
        sink.close()
        path = self._folder / self._name
        if sink.frames and path.is_file():
            self.made[self._name] = path
        elif not sink.frames:
            with suppress(OSError):
                path.unlink()


def _reserved_name(folder: Path) -> str:
    """The name of a file in `folder` that was made here: two programs that begin in one second get two names."""
    stem = time.strftime("%Y-%m-%d_%H-%M-%S")
    for name in (f"{stem}.mp4", *(f"{stem}_{number}.mp4" for number in range(2, 1000))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            if folder.is_dir():
                continue
            break
        except OSError:
            break  # the sink says why
        return name
    return f"{stem}.mp4"
