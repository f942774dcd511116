"""Pictures that wait for a thread. A thread takes several small ones at a time.

The network leaves nothing of the code and the data of the other steps in a processor's caches. Steps that are taken for
several pictures in turn cost up to half less than one picture at a time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .inputs.pictures import InputPicture
from .inputs.units import Item
from .job import Shard

_MOST_TAKEN = 16  # pictures that a thread takes at a time
_ROOM = 64  # pictures that wait
PIXELS = 1_000_000  # decoded ones that a thread holds, and that wait: more would cost memory and gain no time


@dataclass(frozen=True)
class PictureTask:
    """A picture to be labelled."""

    shard: Shard
    index: int  # in the shard
    item: Item
    source: str  # where it comes from, for people
    load: Callable[[], InputPicture]  # raises `SourceError`
    pixels: int = 0  # that are in memory already: of a video's frame


class TaskQueue:
    """Between the thread that lists pictures and those that label them."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._tasks: deque[PictureTask] = deque()
        self._changed = threading.Condition()
        self._pixels = 0
        self._closed = False
        self.error: BaseException | None = None

    def put(self, task: PictureTask) -> None:
        """Wait for room, then append. Raises what `fail` was called with."""
        with self._changed:
            self._changed.wait_for(lambda: self.error or (len(self._tasks) < _ROOM and self._pixels < PIXELS))
            if self.error is not None:
                raise self.error
            self._tasks.append(task)
            self._pixels += task.pixels
            self._changed.notify()

    def take(self) -> list[PictureTask]:
        """Wait for pictures; no more than the others leave to this thread, so that all end together. Empty: the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._closed)
            share = -(-len(self._tasks) // self._threads)
            taken: list[PictureTask] = []
            pixels = 0
            while len(taken) < min(share, _MOST_TAKEN) and pixels < PIXELS:
                taken.append(self._tasks.popleft())
                pixels += taken[-1].pixels
            self._pixels -= pixels
            self._changed.notify_all()
            return taken

    def close(self) -> None:
        """Say that no more pictures come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Drop what waits; the first error is kept."""
        with self._changed:
            self.error = self.error or error
            self._tasks.clear()
            self._pixels = 0
            self._changed.notify_all()
