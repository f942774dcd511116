"""Lists of classes with their vectors, the latest ones, so that a client's next picture costs no encoding."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from ..runtime.inference.frame_processor import ActiveClasses

Key = tuple[str, ...]


class ClassCache:
    """The least recently used lists go when all together are larger than a limit. For any number of threads."""

    def __init__(self, encode: Callable[[Key], ActiveClasses], limit: int) -> None:
        """`encode` is called by one thread at a time; `limit` is in bytes of vectors."""
        self._encode = encode
        self._limit = limit
        self._held: OrderedDict[Key, ActiveClasses] = OrderedDict()
        self._lock = threading.Lock()
        self._encoding = threading.Lock()
        self.size = 0  # bytes of the vectors held

    def __len__(self) -> int:
        return len(self._held)

    def get(self, entries: Key) -> tuple[ActiveClasses, bool]:
        """The classes of a list of entries, and whether they were here. Raises what `encode` raises."""
        if (found := self._found(entries)) is not None:
            return found, True
        with self._encoding:  # apart from the other lock: lists that are here do not wait for new ones
            if (found := self._found(entries)) is not None:
                return found, True
            made = self._encode(entries)
            self._keep(entries, made)
            return made, False

    def _found(self, entries: Key) -> ActiveClasses | None:
        with self._lock:
            found = self._held.get(entries)
            if found is not None:
                self._held.move_to_end(entries)
            return found

    def _keep(self, entries: Key, made: ActiveClasses) -> None:
        size = _size(entries, made)
        if size > self._limit:
            return
        with self._lock:
            self._held[entries] = made
            self.size += size
            while self.size > self._limit:
                key, dropped = self._held.popitem(last=False)
                self.size -= _size(key, dropped)


def _size(entries: Key, active: ActiveClasses) -> int:
    return active.vocabulary.vectors.nbytes + sum(map(len, entries))
