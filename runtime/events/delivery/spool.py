"""Events that wait for one receiver, in order, until it has them: on disk, and in memory while the disk takes none.

One SQLite file for each receiver (spool_file.py), which is locked while it is in use: a second run to the same receiver
takes a file of its own. What a run has left in its file is taken over by a run that goes on, or by the next one. Of a file
that is damaged everything is taken over that can be read.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ....bundle.errors import SinkError
from .spool_file import SIZE, is_damage, opened, readable, rescued, set_aside, waiting

_MOST_FILES = 16  # runs with the same receiver at the same time
_AGAIN = 1.0  # seconds until a disk that took nothing is tried again
_BATCH = 100  # events that are taken over at once


@dataclass(frozen=True)
class SpooledEvent:
    """An event that waits."""

    place: int  # in the order of the queue
    text: str  # the event as JSON
    snapshot: bytes | None  # JPEG

    @property
    def size(self) -> int:
        """Characters and bytes."""
        return len(self.text) + len(self.snapshot or b"")


class Spool:
    """A bounded queue. Every method may be called from any thread."""

    def __init__(self, folder: Path | None, receiver: str, most_events: int, most_bytes: int) -> None:
        """`receiver` is a plain word that names who the events are for; `folder` None: the queue is in memory alone.

        Raises `SinkError`.
        """
        self._most_events, self._most_bytes = most_events, most_bytes
        self._lock = threading.Lock()
        self.dropped = 0  # events that found no room, since the start
        self.damage: list[str] = []  # what happened to files that were no good, until somebody has told it
        self.trouble: str | None = None  # why events cannot be kept on disk, while they cannot
        self._retry_at = 0.0  # time.monotonic() from which the disk is tried again after trouble
        self._memory: deque[SpooledEvent] = deque()  # behind all that are on disk
        self._count = self._bytes = 0  # of what waits, disk and memory
        self._gone = 0  # no event on disk up to this place waits any more
        self._unremoved = False  # whether such events may still be on disk
        self._handed: int | None = None  # place of the event that `first` gave last, while it waits
        self._next = 1  # place of the next event
        self._base: sqlite3.Connection | None = None
        self._handle: int | None = None
        self._folder, self._receiver = folder, receiver
        self._path: Path | None = None
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._handle, self._path = _locked(folder, receiver)
            try:
                self._open(self._path)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):  # such as a full disk; the file is sound
                    raise
                self._rescue(self._path, error)
        except (OSError, ValueError, sqlite3.Error) as error:
            self.close()
            raise SinkError(
                f"events cannot wait in {folder} ({error}); choose another folder: [spool] folder = …"
            ) from error

    def __len__(self) -> int:
        return self._count

    @property
    def persistent(self) -> bool:
        """Whether what waits outlives the process."""
        return self._folder is not None

    def append(self, text: str, snapshot: bytes | None = None) -> None:
        """Add an event; the oldest ones are dropped if there are too many. Where the disk takes it not, see `trouble`."""
        with self._lock:
            event = SpooledEvent(self._next, text, snapshot)
            self._next += 1
            self._memory.append(event)
            self._count += 1
            self._bytes += event.size
            self._store()
            # Without a disk, or while it takes nothing, the oldest events that can be dropped are those in memory.
            while len(self._memory) > 1 and self._too_much(self._count, self._bytes):
                self._forget(self._memory.popleft())
                self.dropped += 1

    def store(self) -> None:
        """Put what is in memory on disk, if that is possible again."""
        with self._lock:
            self._store()

    def first(self) -> SpooledEvent | None:
        """The oldest event, which stays until `remove`. Raises `SinkError` where the disk cannot be read."""
        with self._lock:
            event = self._oldest()
            self._handed = None if event is None else event.place
            return event

    def remove(self, event: SpooledEvent) -> None:
        """Take out what `first` gave, once it is delivered; it does not come again, even if the disk keeps it."""
        with self._lock:
            if event.place != self._handed:
                return  # it was dropped meanwhile
            if self._memory and self._memory[0].place == event.place:
                self._memory.popleft()
            else:
                self._gone, self._unremoved = event.place, True
            self._forget(event)
            self._store()

    def adopt(self) -> int:
        """Take over what runs that are gone have left in files of their own; how many events. Raises `SinkError` where
        one cannot be read, once all others are taken over."""
        if self._folder is None:
            return 0
        count, failure = 0, None
        for number in range(_MOST_FILES):
            path = _file(self._folder, self._receiver, number)
            if path == self._path or not path.exists():
                continue
            handle = None
            try:
                handle = _lock(self._folder, self._receiver, number)
                if handle is not None:
                    count += self._adopt(path)
            except (OSError, sqlite3.Error) as error:
                failure = SinkError(f"events in {path} cannot be read ({error}); they stay there")
                failure.__cause__ = error
            finally:
                if handle is not None:
                    os.close(handle)
        if failure is not None:
            raise failure
        return count

    def close(self) -> int:
        """Close the file; what is on disk stays in it. Returns how many events are lost, because they are in memory
        alone. May be called more than once."""
        with self._lock:
            self._retry_at = 0.0
            self._store()
            if self._base is not None:
                with suppress(sqlite3.Error):
                    self._base.close()
                self._base = None
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
            return len(self._memory)

    # -- called with the lock held -----------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        base = opened(path)
        try:
            count, size = waiting(base)
            row = base.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
        except BaseException:
            base.close()
            raise
        self._base, self._next = base, max(self._next, 1 + (0 if row is None else int(row[0])))
        self._count, self._bytes = count + len(self._memory), size + sum(event.size for event in self._memory)

    def _rescue(self, path: Path, error: sqlite3.Error) -> None:
        """Go on with a new file, and with what can be read of the damaged one. Raises `OSError`, `sqlite3.Error`."""
        before = self._count - len(self._memory)  # 0 at the start, when nobody knows
        fresh, count = rescued(path, self._gone)
        if self._base is not None:
            with suppress(sqlite3.Error):
                self._base.close()
            self._base = None
        aside = set_aside(path)
        os.rename(fresh, path)
        self.damage.append(f"{path} is damaged ({error}), has {count} events that can be read, and is kept as {aside}")
        self.dropped += max(0, before - count)
        self._unremoved = False
        self._open(path)

    def _oldest(self) -> SpooledEvent | None:
        if self._base is not None and self._count > len(self._memory):
            try:
                event = self._first_on_disk(self._base)
            except (OSError, sqlite3.Error) as error:
                raise SinkError(f"events on disk cannot be read ({error})") from error
            if event is not None:
                return event
            # Somebody else has taken events out.
            self._count, self._bytes = len(self._memory), sum(event.size for event in self._memory)
        return self._memory[0] if self._memory else None

    def _first_on_disk(self, base: sqlite3.Connection) -> SpooledEvent | None:
        look = "SELECT place, CAST(text AS TEXT), snapshot FROM events WHERE place > ? ORDER BY place LIMIT 1"
        try:
            row = base.execute(look, (self._gone,)).fetchone()
        except sqlite3.Error as error:
            if self._path is None or not is_damage(error):
                raise
            self._rescue(self._path, error)
            assert self._base is not None
            row = self._base.execute(look, (self._gone,)).fetchone()
        return None if row is None else SpooledEvent(row[0], row[1], row[2] if isinstance(row[2], bytes) else None)

    def _store(self) -> None:
        """Bring the disk up to date, and keep the bounds. Where that fails there is `trouble`, and nothing is lost."""
        base = self._base
        if base is None or not (self._memory or self._unremoved) or time.monotonic() < self._retry_at:
            return
        gone, count, size, dropped, sure = self._gone, self._count, self._bytes, 0, False
        new = self._memory[0].place if self._memory else self._next
        try:
            if self._unremoved:
                base.execute("DELETE FROM events WHERE place <= ?", (gone,))
                self._unremoved = False
            base.execute("BEGIN IMMEDIATE")
            base.executemany(
                "INSERT INTO events(place, text, snapshot) VALUES (?, ?, ?)",
                [(event.place, event.text, event.snapshot) for event in self._memory],
            )
            while count > 1 and self._too_much(count, size):
                row = base.execute(
                    f"SELECT place, {SIZE} FROM events WHERE place > ? ORDER BY place LIMIT 1", (gone,)
                ).fetchone()
                if not sure and (row is None or row[0] >= new):
                    (count, size), sure = waiting(base, gone), True  # somebody else may have taken events out
                    continue
                gone, count, size, dropped = row[0], count - 1, size - row[1], dropped + 1
            base.execute("DELETE FROM events WHERE place <= ?", (gone,))
            base.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(error)
            return
        self._memory.clear()
        self._gone, self._count, self._bytes = gone, count, size
        self.dropped += dropped
        if self._handed is not None and self._handed <= gone:
            self._handed = None
        self.trouble, self._retry_at = None, 0.0

    def _fail(self, error: sqlite3.Error) -> None:
        assert self._base is not None
        if self._base.in_transaction:
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
        if self._path is not None and is_damage(error):
            with suppress(OSError, sqlite3.Error):  # of a full disk; it is tried again
                self._rescue(self._path, error)
        self.trouble, self._retry_at = str(error), time.monotonic() + _AGAIN

    def _forget(self, event: SpooledEvent) -> None:
        self._count -= 1
        self._bytes = max(0, self._bytes - event.size) if self._count else 0
        if event.place == self._handed:
            self._handed = None

    def _too_much(self, count: int, size: int) -> bool:
        return count > self._most_events or size > self._most_bytes

    # ----------------------------------------------------------------------------------------------------------------

    def _adopt(self, path: Path) -> int:
        """Move the events in the file at `path`, in batches; a kill meanwhile leaves one batch in both files."""
        count = 0
        try:
            left = opened(path)
            try:
                while rows := left.execute(
                    f"SELECT place, CAST(text AS TEXT), snapshot FROM events ORDER BY place LIMIT {_BATCH}"
                ).fetchall():
                    if not self._take(rows):
                        break
                    left.execute("DELETE FROM events WHERE place <= ?", (rows[-1][0],))
                    count += len(rows)
            finally:
                left.close()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            return count + self._adopt_damaged(path, error)
        return count

    def _adopt_damaged(self, path: Path, error: sqlite3.Error) -> int:
        """Copy what can be read of the damaged file at `path`, which is set aside once that is done."""
        rows, count = readable(path), 0
        while batch := list(islice(rows, _BATCH)):
            if not self._take(batch):
                return count
            count += len(batch)
        aside = set_aside(path)
        self.damage.append(f"{path} is damaged ({error}), has {count} events that can be read, and is kept as {aside}")
        return count

    def _take(self, rows: Sequence[tuple[int, str, object]]) -> bool:
        """Add all of `rows` to what is on disk; False where it takes them not."""
        with self._lock:
            self._store()
            if self._base is None or self._memory:
                return False
            before = self._count, self._bytes
            for number, (_, text, data) in enumerate(rows, self._next):
                self._memory.append(SpooledEvent(number, text, data if isinstance(data, bytes) else None))
            self._next += len(rows)
            self._count += len(rows)
            self._bytes += sum(event.size for event in self._memory)
            self._store()
            if self._memory:
                self._memory.clear()
                self._count, self._bytes = before
                return False
            return True


def _file(folder: Path, receiver: str, number: int) -> Path:
    return folder / f"{receiver}-{number}.sqlite3"


def _lock(folder: Path, receiver: str, number: int) -> int | None:
    """A lock on a file of `receiver`, or None where a run uses it."""
    handle = os.open(folder / f"{receiver}-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return handle


def _locked(folder: Path, receiver: str) -> tuple[int, Path]:
    """A lock on the first file of `receiver` that no other run uses, and the file."""
    for number in range(_MOST_FILES):
        if (handle := _lock(folder, receiver, number)) is not None:
            return handle, _file(folder, receiver, number)
    raise OSError(errno.EBUSY, f"{_MOST_FILES} runs send events to the same receiver already")
