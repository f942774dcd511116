"""What passes frames from one thread to the next: a short queue, or one slot that keeps only the newest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ended(Exception):
    """There are no more items; for a writer: nobody wants any more."""


class Channel(Generic[Item]):
    """One writer, one reader, at most `size` items between them, in order."""

    def __init__(self, size: int = 1, newest: bool = False) -> None:
        """`newest`: a writer never waits, it replaces what nobody has taken yet; else it waits for room."""
        self._items: deque[Item] = deque()
        self._size = size
        self._newest = newest
        self._changed = threading.Condition()
        self._finished = False
        self._cancelled = False
        self.replaced = 0  # items that a newer one took the place of

    def put(self, item: Item) -> None:
        """Hand over `item`. Raises `Ended` once the channel is cancelled."""
        with self._changed:
            if not self._newest:
                self._changed.wait_for(lambda: len(self._items) < self._size or self._cancelled)
            if self._cancelled:
                raise Ended
            if len(self._items) == self._size:
                self._items.popleft()
                self.replaced += 1
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> Item | None:
        """The next item, or None when `timeout` seconds bring none. Raises `Ended` after the last one."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._items or self._finished or self._cancelled, timeout):
                return None
            if self._cancelled or not self._items:
                raise Ended
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def __iter__(self) -> Iterator[Item]:
        """Items as they come, until there are no more."""
        with suppress(Ended):
            while True:
                item = self.get()
                assert item is not None  # without a timeout there is an item, or `Ended`
                yield item

    def wait_taken(self, timeout: float) -> None:
        """Return when nothing waits to be taken any more, or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._items or self._cancelled, timeout)

    def finish(self) -> None:
        """No more items come; those that wait are still delivered."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def cancel(self) -> None:
        """Nothing more is delivered, and nobody waits any longer."""
        with self._changed:
            self._cancelled = True
            self._items.clear()
            self._changed.notify_all()
