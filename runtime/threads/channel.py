"""Passes frames from one thread to the next: a short queue, or one slot that keeps only the newest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Ended(Exception):
    """Raised to readers after the last item, and to writers once the channel is cancelled."""


class Channel(Generic[Item]):
    """At most `size` items between writers and readers, in the order of their places; by default, of arrival."""

    def __init__(self, size: int = 1, *, newest: bool = False) -> None:
        """With `newest`, `put` never waits: it replaces an item that was not taken yet. Otherwise it waits for room."""
        self._items: dict[int, Item] = {}  # by place
        self._first = 0  # the place whose item is due
        self._places = 0  # given so far
        self._size = size
        self._newest = newest
        self._lock = threading.Lock()
        # Two conditions, so that no thread is woken for nothing.
        self._filled, self._taken = threading.Condition(self._lock), threading.Condition(self._lock)
        self._finished = False
        self._cancelled = False
        self.replaced = 0  # items that were dropped for a newer one

    def place(self) -> int:
        """Reserve the next place in the order. An item must be put there, or those behind it are never delivered."""
        with self._lock:
            self._places += 1
            return self._places - 1

    def put(self, item: Item, place: int | None = None) -> None:
        """Hand over `item`, at its `place` if it has one. Raises `Ended` once the channel is cancelled."""
        due = self.place() if place is None else place
        with self._lock:
            self._taken.wait_for(lambda: self._cancelled or self._newest or due < self._first + self._size)
            if self._cancelled:
                raise Ended
            self._items[due] = item
            while due >= self._first + self._size:
                del self._items[self._first]
                self._first += 1
                self.replaced += 1
            self._filled.notify()

    def get(self, timeout: float | None = None) -> Item | None:
        """The next item, or None when `timeout` seconds bring none. Raises `Ended` after the last one."""
        with self._lock:
            if not self._filled.wait_for(
                lambda: self._first in self._items or self._finished or self._cancelled, timeout
            ):
                return None
            if self._cancelled or self._first not in self._items:
                raise Ended
            item = self._items.pop(self._first)
            self._first += 1
            self._taken.notify_all()
            return item

    def take(self) -> Item:
        """The next item, however long it takes to come. Raises `Ended` after the last one."""
        item = self.get()
        assert item is not None  # without a timeout there is an item, or `Ended`
        return item

    def __iter__(self) -> Iterator[Item]:
        """Items as they come, until there are no more."""
        with suppress(Ended):
            while True:
                yield self.take()

    def wait_taken(self, timeout: float) -> None:
        """Return when nothing waits to be taken any more, or after `timeout` seconds."""
        with self._lock:
            self._taken.wait_for(lambda: not self._items or self._cancelled, timeout)

    def finish(self) -> None:
        """Say that no more items will be put; those that wait are still delivered."""
        with self._lock:
            self._finished = True
            self._filled.notify_all()

    def cancel(self) -> None:
        """Deliver nothing more; calls that wait raise `Ended`."""
        with self._lock:
            self._cancelled = True
            self._items.clear()
            self._filled.notify_all()
            self._taken.notify_all()
