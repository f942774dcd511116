"""Live sources, always at their newest frame, and reopened when they are lost.

If frames were read only as fast as the network runs, the camera's queue would fill and latency would grow. So a thread
reads every frame and keeps only the newest. Cameras fail in several ways: the stream ends, a read raises, or a read in
a driver never returns. So a second thread supervises the reading thread; a reader that hangs is abandoned, and neither
reconnecting nor the end of the program waits for it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ....bundle.errors import OvsError, SourceError
from ...frame import Frame
from ...opencv import cv2
from ...status import PLAYING
from ..source import Sound
from .pace import Grabbing, Pace, Skipping

PATIENCE = 5.0  # seconds without a frame after which a source counts as lost
OPEN_PATIENCE = 15.0  # seconds a source may take to open and send its first frame
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0  # seconds before a lost source is opened again: doubled at each failure
_MOST_STUCK = 3  # reads hanging in drivers, beyond which no further one is started
_LEAVE = 2.0  # seconds that `close` waits for the threads
_USUAL_FPS = 30.0

Image = npt.NDArray[np.uint8]


class Capture(Protocol):
    """An opened device, in the manner of `cv2.VideoCapture`. Used by one thread only, the one that opened it."""

    def read(self) -> tuple[bool, Any]:
        """Wait for the next picture (H, W, 3) uint8 BGR; (False, None) at the end."""
        ...

    def get(self, prop: int) -> float:
        """A property of `cv2.VideoCapture`; 0 where unknown."""
        ...

    def release(self) -> None:
        """Free the device."""
        ...


class _Reader:
    """One connection: a thread that opens the device and offers frames until something ends it."""

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self.opened = False
        self.left = False  # abandoned: end as soon as the read returns
        self.reason: OvsError | None = None  # why it ended
        self.last = time.monotonic()  # when the last frame came
        self.thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            capture = self._source.open_capture()
        except OvsError as error:
            self.end(error)
            return
        except Exception as error:  # noqa: BLE001 - a driver's bindings may raise anything; the source is lost
            self.end(SourceError(f"{self._source.name} does not open ({error})"))
            return
        try:
            pace = Pace(self._source.most_fps)
            while not self.left:
                wanted = pace.wait()
                if not wanted and _passed_by(capture):
                    self.last = time.monotonic()
                    continue
                read, image = capture.read()
                if not read or image is None or image.ndim != 3:
                    self.end(self._source.loss("stopped sending frames"))
                    return
                if wanted or not self.opened:
                    self._source.offer(self, image, capture)
                else:  # it can only be read, not left
                    self.last = time.monotonic()
        except Exception as error:  # noqa: BLE001 - as above
            self.end(self._source.loss(f"failed ({error})"))
        finally:
            capture.release()

    def end(self, reason: OvsError) -> None:
        self._source.ended(self, reason)


class LiveSource:
    """Frames of a camera, a stream or a screen. `open_capture` opens it, at first and after each loss."""

    live = True
    moving = True
    total: int | None = None
    skipped = 0
    truncated: str | None = None
    sound: Sound | None = None
    files: tuple[Path, ...] = ()

    def __init__(
        self,
        name: str,
        open_capture: Callable[[], Capture],
        *,
        flip: int | None = None,
        reconnect: bool = True,
        most_fps: float | None = None,
        advice: Callable[[], str] = lambda: "",
        patience: float = PATIENCE,
    ) -> None:
        """Opens the source and waits for its first frame; raises `SourceError` where none comes.

        `flip` is OpenCV's code: 0 upside down, 1 left to right, -1 both. Without `reconnect`, a loss is an error.
        `most_fps` frames a second are decoded, the others are left.
        """
        self.name = name
        self.most_fps = most_fps
        self.open_capture = open_capture
        self.fps = _USUAL_FPS
        self.dropped = 0
        self._flip = flip
        self._reconnect = reconnect
        self._advice = advice
        self._patience = patience
        self._changed = threading.Condition()
        self._newest: tuple[Image, int, float] | None = None  # image, its number, when it came
        self._count = 0
        self._closed = False
        self._error: OvsError | None = None  # the end, if it is one
        self._loss: OvsError | None = None  # why it is being opened again
        self._retry_at: float | None = None
        self._stuck: list[_Reader] = []
        self._hanging = False  # so many reads hang that no other is begun
        self._reader = _Reader(self)
        self._watch = threading.Thread(target=self._supervise, name="watch", daemon=True)
        self._watch.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._newest or self._error or self._closed)
                if self._error is not None and self._newest is None:
                    raise self._error
        except BaseException:
            self.close()
            raise

    @property
    def state(self) -> str:
        """`PLAYING`, or "lost: …" for people."""
        with self._changed:
            silent = time.monotonic() - self._reader.last
            if self._loss is None:
                return PLAYING if silent < self._patience else f"lost: {self.name} sent no frame for {silent:.0f} s"
            if self._hanging:
                return f"lost: {self.name} hangs in its driver; unplug it and plug it in again, or restart this program"
            plan = "reconnecting"
            if self._retry_at is not None:
                plan += f" in {max(1, math.ceil(self._retry_at - time.monotonic()))} s"
            return f"lost: {_first_sentence(self._loss)}; {plan}"

    def __iter__(self) -> Iterator[Frame]:
        with self._changed:
            # Frames that came while the rest of the program was starting do not count as dropped.
            self._count = self.dropped = 0
            if self._newest is not None:
                self._newest = self._newest[0], 0, self._newest[2]
                self._count = 1
        start = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._newest or self._error or self._closed)
                if self._closed:
                    return
                if self._newest is None:
                    assert self._error is not None
                    raise self._error
                (image, index, arrival), self._newest = self._newest, None
            start = arrival if start is None else start
            if self._flip is not None:
                image = cv2.flip(image, self._flip)
            yield Frame(image, index, arrival - start, f"live_{index:06d}", arrival)

    def close(self) -> None:
        """Stop reading. A read that hangs in a driver keeps its thread, and is not waited for."""
        with self._changed:
            self._closed = True
            self._reader.left = True
            self._changed.notify_all()
        deadline = time.monotonic() + _LEAVE
        for thread in (self._watch, self._reader.thread):
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))

    def loss(self, what: str) -> SourceError:
        """The error of a source that was lost in this way."""
        advice = self._advice()
        return SourceError(f"{self.name} {what}. {advice}" if advice else f"{self.name} {what}")

    def offer(self, reader: _Reader, image: Image, capture: Capture) -> None:
        """Called by `reader` with each new frame."""
        with self._changed:
            if reader.left:
                return
            if not reader.opened:
                reader.opened = True
                fps = float(capture.get(cv2.CAP_PROP_FPS))
                self.fps = fps if 1 <= fps <= 1000 else self.fps
                self._loss = self._retry_at = None
            self.dropped += self._newest is not None
            reader.last = time.monotonic()
            self._newest = image, self._count, reader.last
            self._count += 1
            self._changed.notify_all()

    def ended(self, reader: _Reader, reason: OvsError) -> None:
        """Called by `reader` when it has ended, with the reason."""
        with self._changed:
            reader.reason = reason
            self._changed.notify_all()

    def _supervise(self) -> None:
        """Watch the reader; replace it when it ended or hangs, at growing intervals."""
        pause = _FIRST_PAUSE
        ever = False  # whether a frame has ever come
        while True:
            reason = self._await_end()
            with self._changed:
                if self._closed:
                    return
                ever = ever or self._reader.opened
                if not ever or not self._reconnect:
                    self._error = reason
                    self._changed.notify_all()
                    return
                pause = _FIRST_PAUSE if self._reader.opened else pause
                self._loss, self._retry_at = reason, time.monotonic() + pause
                self._changed.wait_for(lambda: self._closed, pause)
                while not self._closed and len(self._stuck) >= _MOST_STUCK:
                    self._hanging = True
                    self._changed.wait(pause)
                    self._stuck = [reader for reader in self._stuck if reader.thread.is_alive()]
                self._hanging = False
                if self._closed:
                    return
                self._retry_at = None
                self._reader = _Reader(self)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _await_end(self) -> OvsError:
        """Wait until the reader ends, hangs or is closed, and return the reason; one that hangs is abandoned."""
        with self._changed:
            reader = self._reader
            while reader.reason is None and not self._closed:
                patience = self._patience if reader.opened else max(self._patience, OPEN_PATIENCE)
                left = reader.last + patience - time.monotonic()
                if left <= 0:
                    reader.left = True
                    self._stuck.append(reader)
                    what = "sent no frame" if reader.opened else "neither opened nor failed"
                    return self.loss(f"{what} for {patience:g} s")
                self._changed.wait(left)
            return reader.reason or self.loss("was closed")


def _passed_by(capture: Capture) -> bool:
    """Wait for the next frame of `capture` and leave it undecoded; False where it ended or cannot do that."""
    if isinstance(capture, Skipping):
        return capture.skip()
    return isinstance(capture, Grabbing) and bool(capture.grab())


def _first_sentence(error: OvsError) -> str:
    return str(error).partition(". ")[0]
