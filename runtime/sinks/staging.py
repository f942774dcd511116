"""Output files: those that appear whole or not at all, and those that are live from their first byte."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ...bundle.errors import SinkError

try:
    import fcntl
except ImportError:  # not on Windows, where stale partial files stay
    fcntl = None  # type: ignore[assignment]

_YOUNG = 5.0  # seconds in which, on file systems without locks, a partial file may be in use


def cannot_write(target: Path, error: OSError | ValueError, kept: str = "") -> SinkError:
    """The one line for an output that the system refuses, or whose name it does; `kept` says what there is of it."""
    reason = getattr(error, "strerror", None) or error
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "free some space, or choose another place"
    else:
        advice = "choose another place, in a folder you may write to"
    return SinkError(f"cannot write {str(target)[:200]!r} ({reason}){kept}; {advice}")


class OutputFile(Protocol):
    """A file to be written."""

    target: Path  # as the user named it
    work: Path  # where to write

    def commit(self) -> None:
        """Let it stand under its name. Raises `SinkError`."""
        ...

    def discard(self) -> None:
        """Remove it, unless it was committed."""
        ...


class Staged:
    """A file that appears whole: `work` is a hidden name beside `target`, to which `commit` moves it.

    While it is being written its partial file is locked, so that a later process can tell a stale one (its owner was
    killed) from one in use; stale ones of the same target are removed here.
    """

    def __init__(self, target: Path, *, clean: bool = True) -> None:
        """Raises `SinkError` when a folder stands at `target`, or nothing can be written beside it.

        `clean`: look for stale partial files of this target.
        """
        self.target = target
        self._parents = Parents()
        self._lock: int | None = None
        try:
            self._place = _file_place(target)
            self._parents.make(self._place.parent)
            stem = self._place.stem[:80]
            if clean:
                remove_stale(self._place.parent, stem, self._place.suffix)
            while self._lock is None:
                self.work = self._place.with_name(f".{stem}.{secrets.token_hex(4)}.partial{self._place.suffix}")
                self._lock = _create_locked(self.work)
        except (OSError, ValueError) as error:
            self._parents.remove()
            raise cannot_write(target, error) from error

    def commit(self) -> None:
        """Move the file to its place. Raises `SinkError`."""
        try:
            os.replace(self.work, self._place)
        except OSError as error:
            self.discard()
            raise cannot_write(self.target, error) from error
        self._parents.keep()
        self._unlock()

    def discard(self) -> None:
        """Remove what was written; nothing happens after `commit`."""
        if self._lock is not None:
            with suppress(OSError):
                self.work.unlink()
        self._unlock()
        self._parents.remove()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


class InPlace:
    """A file that stands under its own name from the start, as what cannot be made again should: a live recording."""

    def __init__(self, target: Path) -> None:
        """Raises `SinkError` where it cannot be written, or another process is writing it."""
        self.target = target
        self._parents = Parents()
        self._lock: int | None = None
        try:
            self.work = _file_place(target)
            self._parents.make(self.work.parent)
            self._made = not self.work.exists()
            self._lock = os.open(self.work, os.O_CREAT | os.O_WRONLY, 0o666)
            if _try_lock(self._lock) is False:
                os.close(self._lock)
                self._lock = None
                raise SinkError(f"{target} is being written by another process; choose another name")
        except (OSError, ValueError) as error:
            self._parents.remove()
            raise cannot_write(target, error) from error

    def commit(self) -> None:
        """Nothing needs to be moved. Raises `SinkError` where the file is gone."""
        gone = not self.work.exists()
        self.keep()
        if gone:
            raise cannot_write(self.target, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))

    def keep(self) -> None:
        """Leave it as it is."""
        self._parents.keep()
        self._close()

    def discard(self) -> None:
        """Remove the file if it was made here; nothing happens after `commit`."""
        if self._lock is not None and self._made:
            with suppress(OSError):
                self.work.unlink()
        self._close()
        self._parents.remove()

    def _close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None


def remove_stale(folder: Path, stem: str = "", suffix: str = "") -> None:
    """Remove partial files in `folder` that nobody is writing: their owner was killed. Those of `stem`, or all."""
    name = f"{re.escape(stem)}" if stem else ".+"
    pattern = re.compile(rf"\.{name}\.[0-9a-f]+\.partial{re.escape(suffix) if suffix else '.*'}")
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if pattern.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                _remove_if_stale(Path(entry.path))


def _remove_if_stale(path: Path) -> None:
    if fcntl is None:
        return
    with suppress(OSError):
        handle = os.open(path, os.O_WRONLY)
        try:
            locked = _try_lock(handle)
            if locked or (locked is None and time.time() - path.stat().st_mtime >= _YOUNG):
                path.unlink()
        finally:
            os.close(handle)


def _create_locked(path: Path) -> int | None:
    """A new file, open and locked; None if another process took it for a stale one before it was locked."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    locked = _try_lock(handle)
    if locked is None or (locked and os.fstat(handle).st_nlink):
        return handle
    os.close(handle)
    with suppress(OSError):
        path.unlink()
    return None


def _try_lock(handle: int) -> bool | None:
    """Lock an open file; False if another process has locked it, None on file systems without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _file_place(target: Path) -> Path:
    # Through a link, the file it names is replaced, not the link.
    place = Path(os.path.realpath(target))
    if place.is_dir():
        raise SinkError(f"{target} is a folder, expected a file or nothing there; choose another name")
    return place


class Parents:
    """Folders that were made for an output, and go with it if nothing comes of it."""

    def __init__(self) -> None:
        self._made: list[Path] = []

    def make(self, folder: Path) -> None:
        """Make `folder` and what is missing above it."""
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            self._made.append(path)

    def keep(self) -> None:
        """They hold something now."""
        self._made.clear()

    def remove(self) -> None:
        """Remove those that are still empty."""
        for path in reversed(self._made):
            with suppress(OSError):  # not empty: somebody else uses it by now
                path.rmdir()
        self._made.clear()


def made_folder(folder: Path) -> Parents:
    """Make an output folder; `remove` of the answer removes what was made, if it is empty. Raises `SinkError`."""
    parents = Parents()
    try:
        place = Path(os.path.realpath(folder))
        if place.exists() and not place.is_dir():
            raise SinkError(f"{folder} is a file, expected a folder or nothing there; choose another name")
        parents.make(place)
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, ValueError) as error:
        parents.remove()
        raise cannot_write(folder, error) from error
    return parents
