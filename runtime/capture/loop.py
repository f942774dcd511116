"""A recording played in a loop at its own pace, for a viewer that stays open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ..frame import Frame
from ..status import PLAYING
from .source import Sound, Source

_PHOTO = 4.0  # seconds that a photo stays
_AGAIN = 0.2  # seconds after which it is labelled again, since classes and settings may have changed


class LoopedSource:
    """The frames of a recording in a loop: a clip in real time, each photo for some seconds.

    Every frame is shown; a network that is slower than the clip slows the clip down.
    """

    live = False
    total: int | None = None
    state = PLAYING
    dropped = 0
    truncated: str | None = None
    sound: Sound | None = None

    def __init__(self, reopen: Callable[[], Source]) -> None:
        """`reopen` opens the source anew; it is called once here, so that its errors show at once."""
        self._reopen = reopen
        self._source = reopen()
        self._closed = threading.Event()
        self.name, self.fps, self.moving = self._source.name, self._source.fps, self._source.moving

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that are read."""
        return self._source.files

    @property
    def skipped(self) -> int:
        """Photos or frames of this turn that could not be decoded."""
        return self._source.skipped

    def __iter__(self) -> Iterator[Frame]:
        index, begun = 0, time.monotonic()
        usual = 1 / self.fps if self.moving else _AGAIN
        due = begun - usual
        while not self._closed.is_set():
            before = -usual
            for frame in self._source:
                step, before = frame.time - before, frame.time
                for _ in range(1 if self.moving else round(_PHOTO / _AGAIN)):
                    # A network that is slower than the clip slows it down: catching up would leave frames out.
                    due = max(due + (step if self.moving else _AGAIN), time.monotonic() - _AGAIN)
                    if self._closed.wait(max(0.0, due - time.monotonic())):
                        return
                    now = time.monotonic()
                    yield replace(frame, index=index, time=now - begun, captured=now)
                    index += 1
            if not self._closed.is_set():
                self._source.close()
                self._source = self._reopen()

    def close(self) -> None:
        """End the iteration."""
        self._closed.set()
        self._source.close()
