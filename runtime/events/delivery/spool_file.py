"""The SQLite file in which events wait: how it is opened, and what can be read of one that is damaged.

Write-ahead logging, so that what is appended survives a kill of the process, and all but the last moments a power cut.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

PATIENCE = 0.5  # seconds that another process may hold the file
_PAGES = 1000  # of the write-ahead log, until it is written back
_LONGEST = 2**40  # bytes of a file that a header may speak of
_SUFFIXES = ("", "-wal", "-shm")  # of the file and those that SQLite keeps beside it

SIZE = "length(CAST(text AS TEXT)) + coalesce(length(snapshot), 0)"  # of an event, in SQL


def opened(path: Path) -> sqlite3.Connection:
    """The file at `path`, which is made if it is not there. Raises `OSError`, `sqlite3.Error`."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    base = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=PATIENCE)
    try:
        base.text_factory = _decoded
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        base.execute(f"PRAGMA wal_autocheckpoint={_PAGES}")
        base.execute(
            "CREATE TABLE IF NOT EXISTS events(place INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL, snapshot BLOB)"
        )
    except BaseException:
        base.close()
        raise
    return base


def waiting(base: sqlite3.Connection, after: int = 0) -> tuple[int, int]:
    """Number and size of the events behind the place `after`."""
    count, size = base.execute(
        f"SELECT count(*), coalesce(sum({SIZE}), 0) FROM events WHERE place > ?", (after,)
    ).fetchone()
    return int(count), int(size)


def is_damage(error: Exception) -> bool:
    """Whether the contents of the file are broken, and not the disk that it is on."""
    return type(error) is sqlite3.DatabaseError


def readable(path: Path, after: int = 0) -> Iterator[tuple[int, str, bytes | None]]:
    """Place, text and picture of each event in a damaged file that can be read, the oldest first; it stays as it is.

    Only those behind the place `after`. A picture that cannot be read is left out.
    """
    with _whole(path) as whole, closing(_read_only(whole)) as base:
        base.text_factory = _decoded
        for place in _places(base, after):
            for picture in ("snapshot", "NULL"):
                row = None
                with _passing_damage():
                    row = base.execute(
                        f"SELECT CAST(text AS TEXT), {picture} FROM events WHERE place = ?", (place,)
                    ).fetchone()
                if row is not None and row[0] is not None:
                    yield place, row[0], row[1] if isinstance(row[1], bytes) else None
                    break


def _read_only(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(path))}?mode=ro"
    return sqlite3.connect(address, uri=True, check_same_thread=False, timeout=PATIENCE)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """`path`, or where its end is missing, a copy with zeros in place of that: SQLite reads nothing of a shorter file.

    Its length is that of its header (https://www.sqlite.org/fileformat2.html#the_database_header).
    """
    with path.open("rb") as file:
        header = file.read(32)
    page = int.from_bytes(header[16:18], "big")
    length = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
    if not path.stat().st_size < length <= _LONGEST:
        yield path
        return
    copy = path.with_name(f"{path.name}.whole")
    try:
        _remove(copy)
        shutil.copyfile(path, copy)
        os.truncate(copy, length)
        log = Path(f"{path}-wal")
        if log.exists():
            shutil.copyfile(log, f"{copy}-wal")
        yield copy
    finally:
        _remove(copy)


def rescued(path: Path, after: int) -> tuple[Path, int]:
    """A new file beside the damaged one with what can be read of that, and how many events it has.

    It is closed. Raises `OSError`, `sqlite3.Error`; then there is none.
    """
    fresh = path.with_name(f"{path.name}.new")
    try:
        _remove(fresh)
        with closing(opened(fresh)) as base:
            base.execute("BEGIN")
            rows = base.executemany("INSERT INTO events(place, text, snapshot) VALUES (?, ?, ?)", readable(path, after))
            base.execute("COMMIT")
    except BaseException:
        _remove(fresh)
        raise
    return fresh, max(0, rows.rowcount)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, with its write-ahead log if that holds anything; the name that it has now."""
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    os.rename(path, aside)
    log, index = (Path(f"{path}{suffix}") for suffix in _SUFFIXES[1:])
    if log.exists() and log.stat().st_size:
        os.rename(log, f"{aside}-wal")
    log.unlink(missing_ok=True)
    index.unlink(missing_ok=True)
    return aside


def _places(base: sqlite3.Connection, after: int) -> list[int]:
    """From the oldest event to the first broken page, and from the newest one back to the last."""
    found: set[int] = set()
    for order in ("ASC", "DESC"):
        with _passing_damage():
            for (place,) in base.execute(f"SELECT place FROM events WHERE place > ? ORDER BY place {order}", (after,)):
                found.add(place)
            break
    return sorted(found)


@contextmanager
def _passing_damage() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise


def _remove(path: Path) -> None:
    for suffix in _SUFFIXES:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")
