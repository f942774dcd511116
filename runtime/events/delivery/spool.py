"""Events that wait on disk for one receiver, in order, until it has them.

One SQLite file for each receiver; write-ahead logging, so that what is appended survives a kill of the process, and all
but the last moments a power cut. The file is locked while it is in use: a second run to the same receiver takes a file
of its own, and what an earlier run left is delivered by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

from ....bundle.errors import SinkError

_MOST_FILES = 16  # runs with the same receiver at the same time
_PAGES = 1000  # of the write-ahead log, until it is written back


@dataclass(frozen=True)
class SpooledEvent:
    """An event that waits."""

    place: int  # in the order of the file
    text: str  # the event as JSON
    snapshot: bytes | None  # JPEG


class Spool:
    """A bounded queue on disk. Every method may be called from any thread."""

    def __init__(self, folder: Path, receiver: str, most_events: int, most_bytes: int) -> None:
        """`receiver` is a plain word that names who the events are for. Raises `SinkError`."""
        self._most_events, self._most_bytes = most_events, most_bytes
        self._lock = threading.Lock()
        self.dropped = 0  # events that found no room, since the start
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._handle, path = _locked(folder, receiver)
            self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=5)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=NORMAL")
            self._base.execute(f"PRAGMA wal_autocheckpoint={_PAGES}")
            self._base.execute(
                "CREATE TABLE IF NOT EXISTS events"
                "(place INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, snapshot BLOB)"
            )
            count, size = self._base.execute(
                "SELECT count(*), coalesce(sum(length(text) + coalesce(length(snapshot), 0)), 0) FROM events"
            ).fetchone()
        except (OSError, ValueError, sqlite3.Error) as error:
            raise SinkError(
                f"events cannot wait in {folder} ({error}); choose another folder: [spool] folder = …"
            ) from error
        self._count, self._bytes = int(count), int(size)

    def __len__(self) -> int:
        return self._count

    def append(self, text: str, snapshot: bytes | None = None) -> None:
        """Add an event; the oldest ones are dropped if there are too many. Raises `SinkError`."""
        with self._lock:
            try:
                self._base.execute("BEGIN")
                self._base.execute("INSERT INTO events(text, snapshot) VALUES (?, ?)", (text, snapshot))
                self._count += 1
                self._bytes += _size(text, snapshot)
                while self._count > 1 and (self._count > self._most_events or self._bytes > self._most_bytes):
                    self._drop_oldest()
                self._base.execute("COMMIT")
            except sqlite3.Error as error:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise SinkError(f"an event cannot be kept on disk ({error}); free some space") from error

    def first(self) -> SpooledEvent | None:
        """The oldest event, which stays until `remove`."""
        with self._lock:
            row = self._base.execute("SELECT place, text, snapshot FROM events ORDER BY place LIMIT 1").fetchone()
        return None if row is None else SpooledEvent(*row)

    def remove(self, event: SpooledEvent) -> None:
        """Take a delivered event out."""
        with self._lock:
            if self._base.execute("DELETE FROM events WHERE place = ?", (event.place,)).rowcount:
                self._count -= 1
                self._bytes -= _size(event.text, event.snapshot)

    def close(self) -> None:
        """Close the file; what waits stays in it. May be called more than once."""
        with self._lock:
            if self._handle is not None:
                self._base.close()
                os.close(self._handle)
                self._handle = None

    def _drop_oldest(self) -> None:
        place, text, snapshot = self._base.execute(
            "SELECT place, text, snapshot FROM events ORDER BY place LIMIT 1"
        ).fetchone()
        self._base.execute("DELETE FROM events WHERE place = ?", (place,))
        self._count -= 1
        self._bytes -= _size(text, snapshot)
        self.dropped += 1


def _size(text: str, snapshot: bytes | None) -> int:
    return len(text) + len(snapshot or b"")


def _locked(folder: Path, receiver: str) -> tuple[int | None, Path]:
    """A lock on the first file of `receiver` that no other run uses, and the file."""
    for number in range(_MOST_FILES):
        path = folder / f"{receiver}-{number}.sqlite3"
        handle = os.open(folder / f"{receiver}-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        except OSError:
            os.close(handle)
            raise
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return handle, path
    raise OSError(errno.EBUSY, f"{_MOST_FILES} runs send events to the same receiver already")
