"""Whose frame the network takes next: of each camera only the newest waits, and the camera that waited longest is first.

    camera a ──► newest frame ─┐
    camera b ──► newest frame ─┼─► take(): that of the camera whose last turn is the longest ago
    camera c ──► newest frame ─┘

A camera that sends twice as many frames gets no more turns than the others, and one that sends none holds nobody up.
"""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

from ..threads.channel import Ended

Item = TypeVar("Item")


class Slot(Generic[Item]):
    """Room for one camera's newest item. Made by `Turns.join`."""

    def __init__(self, changed: threading.Condition, turn: int) -> None:
        self._changed = changed
        self._closed = False
        self.item: Item | None = None
        self.turn = turn  # number of its last turn
        self.busy = False  # its item is being worked on: the next one waits, so that a camera's stay in order
        self.replaced = 0  # items that were dropped for a newer one

    def put(self, item: Item) -> None:
        """Offer `item` instead of the one that waits."""
        with self._changed:
            if self._closed:
                return
            self.replaced += self.item is not None
            self.item = item
            self._changed.notify()

    def clear(self) -> None:
        """Take back what waits."""
        with self._changed:
            self.item = None

    def done(self) -> None:
        """The item that was taken has been worked on."""
        with self._changed:
            self.busy = False
            self._changed.notify()

    def close(self) -> None:
        """Take no more items."""
        with self._changed:
            self._closed, self.item = True, None


class Turns(Generic[Item]):
    """Hands out the newest items of all slots in turn, to any number of threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._slots: list[Slot[Item]] = []
        self._turn = 0
        self._ended = False

    def join(self) -> Slot[Item]:
        """The slot of a further camera, which is the last in turn."""
        with self._changed:
            slot: Slot[Item] = Slot(self._changed, self._turn)
            self._slots.append(slot)
            return slot

    def leave(self, slot: Slot[Item]) -> None:
        """Give up `slot`; may be called more than once."""
        slot.close()
        with self._changed:
            self._slots = [one for one in self._slots if one is not slot]

    def take(self) -> tuple[Slot[Item], Item]:
        """The next item with its slot, on which `done` must be called; raises `Ended` after `end`."""
        with self._changed:
            while True:
                if self._ended:
                    raise Ended
                waiting = [slot for slot in self._slots if slot.item is not None and not slot.busy]
                if waiting:
                    slot = min(waiting, key=lambda one: one.turn)
                    item, slot.item = slot.item, None
                    assert item is not None
                    self._turn += 1
                    slot.turn, slot.busy = self._turn, True
                    return slot, item
                self._changed.wait()

    def end(self) -> None:
        """Hand out nothing more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
