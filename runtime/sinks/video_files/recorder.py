"""Recording on demand: started and stopped while frames go on, into video files of their own."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....bundle.errors import OvsError, SinkError
from ...frame import Frame
from ...inference.prediction import Prediction
from ...status import Status
from .video_sink import VideoSink

_USUAL_RATE = 10.0  # frames a second where none is known yet
_HIGHEST_RATE = 30.0
_MOST_REPEATED = 10  # times that one picture fills a gap: a lost camera must not fill the disk


class Recorder:
    """Writes annotated pictures to `folder` between `start` and `stop`, at the speed at which they were seen.

    Frames come at an uneven rate and a video has an even one, so pictures are repeated or left out by their time.
    A recording that fails ends; the stream does not.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._sink: VideoSink | None = None
        self._starting: str | None = None  # name of a recording whose first picture has not come yet
        self._name = ""
        self._begun = 0.0  # time.monotonic() at `start`
        self._first = 0.0  # Frame.time of the first picture
        self._rate = _USUAL_RATE
        self._written = 0  # pictures in the file
        self.made: dict[str, Path] = {}  # name -> place of each recording that is complete
        self.error: str | None = None  # why the last recording failed

    @property
    def seconds(self) -> float | None:
        """How long the recording has been going on; None if there is none."""
        with self._lock:
            on = self._starting is not None or self._sink is not None
            return time.monotonic() - self._begun if on else None

    def start(self) -> None:
        """Record from the next picture on; nothing happens while a recording is going on."""
        with self._lock:
            if self._starting is None and self._sink is None:
                self._begun, self.error = time.monotonic(), None
                self._starting = _free_name(self._folder)

    def stop(self) -> str | None:
        """Complete the recording; its name in `made`, or None if there was none. Raises `SinkError`."""
        with self._lock:
            sink, self._sink, self._starting = self._sink, None, None
            name = self._name
        if sink is None:
            return None
        try:
            sink.finish()
        except OvsError as error:
            self.error = str(error)
            raise
        finally:
            sink.close()
        self.made[name] = self._folder / name
        return name

    def write(self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8], status: Status) -> None:
        """Take a picture (H, W, 3) BGR; does nothing unless a recording is going on."""
        with self._lock:
            try:
                if self._starting is not None:
                    self._name, self._starting = self._starting, None
                    self._rate = min(status.fps or _USUAL_RATE, _HIGHEST_RATE)
                    self._first, self._written = frame.time, 0
                    self._sink = VideoSink(self._folder / self._name, self._rate)
                if self._sink is None:
                    return
                due = round((frame.time - self._first) * self._rate) + 1
                for _ in range(min(due - self._written, _MOST_REPEATED)):
                    self._sink.write(frame, prediction, picture, status)
                self._written = max(self._written, due)
            except (OvsError, OSError) as error:
                self.error = str(error)
                if self._sink is not None:
                    self._sink.close()
                self._sink = None

    def close(self) -> None:
        """Complete what is being recorded."""
        try:
            self.stop()
        except SinkError:
            pass  # `error` says so; the run ends either way


def _free_name(folder: Path) -> str:
    stem = time.strftime("%Y-%m-%d_%H-%M-%S")
    names = [f"{stem}.mp4", *(f"{stem}_{number}.mp4" for number in range(2, 1000))]
    # os.path: where nobody may look, nothing is found, and the writer says why.
    return next((name for name in names if not os.path.exists(folder / name)), names[-1])
