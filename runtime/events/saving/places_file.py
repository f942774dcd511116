"""The TOML file that zones and lines drawn on the page are saved to; people and other programs may change it meanwhile."""

from __future__ import annotations

import errno
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ....bundle.errors import UsageError
from ...threads.newest_task import Superseded
from ..config import is_there, parse_places, parse_toml, toml_bytes
from ..places import Places, merge_places
from .places_toml import replace_places

_BOM = b"\xef\xbb\xbf"
# The folder is read-only, the file is another user's, or it is a mount point.
_IN_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)


@dataclass(frozen=True)
class PlacesDraft:
    """What a file is to become."""

    places: Places  # zones and lines that it will hold
    before: bytes | None  # what it holds; None: it is not there
    after: bytes


class PlacesFile:
    """Saves zones and lines, and leaves everything else in the file as it is. Used by one thread at a time."""

    def __init__(self, path: Path, places: Places) -> None:
        """`places` is what was read from the file."""
        self.path = path
        self._known = places  # what was read from it or written to it last

    def draft(self, places: Places) -> PlacesDraft:
        """The file with `places`, and with what was changed in it since it was read. Nothing is written.

        Raises `Superseded` where a zone or line was changed here and in the file; the next draft replaces it there.
        Raises `UsageError` for a file that cannot be read, or cannot be changed without a loss.
        """
        where = str(self.path)
        before = toml_bytes(self.path) if is_there(self.path) else None
        if before is None:  # not there yet, or removed
            return PlacesDraft(places, None, replace_places("", places, where).encode())
        table = parse_toml(before, where)
        try:
            found = parse_places(table)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
        merged, conflicts = merge_places(self._known, places, found)
        if conflicts:
            known, theirs = dict(self._known.by_name), found.by_name
            for name in conflicts:
                known.pop(name, None)
                known.update({name: theirs[name]} if name in theirs else {})
            self._known = Places.of(known.values())
            raise Superseded(
                f"{self.path.name} was changed in the meantime: {', '.join(map(repr, conflicts))} is another one there, or "
                "gone; make your change again to replace it, or start ovs-run again to use it"
            )
        mark = _BOM if before.startswith(_BOM) else b""
        text = before.removeprefix(mark).decode("utf-8")
        return PlacesDraft(merged, before, mark + replace_places(text, merged, where).encode())

    def write(self, draft: PlacesDraft) -> None:
        """Write `draft`. Raises `UsageError`, `Superseded`; then the file is as it was."""
        real = Path(os.path.realpath(self.path))  # a symbolic link stays one
        try:
            if (real.read_bytes() if real.exists() else None) != draft.before:
                raise Superseded(f"{self.path.name} was changed at this moment; make your change again")
            if draft.after != draft.before:
                _write(real, draft.before, draft.after)
        except OSError as error:
            raise UsageError(f"cannot write {self.path} ({error.strerror or error})") from error
        self._known = draft.places


def _write(path: Path, before: bytes | None, after: bytes) -> None:
    """The file is replaced in one step; where other names have the same file, or none can be made beside it, in place."""
    if before is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "the file is read-only")
    if before is not None and path.stat().st_nlink > 1:
        _overwrite(path, before, after)
        return
    try:
        _replace(path, after)
    except OSError as error:
        if before is None or error.errno not in _IN_PLACE:
            raise
        _overwrite(path, before, after)


def _replace(path: Path, data: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            status = path.stat() if path.exists() else None
            if status is not None and hasattr(os, "fchown"):
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.chmod(temporary, 0o644 if status is None else status.st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _overwrite(path: Path, before: bytes, after: bytes) -> None:
    """Write over the file's own bytes; what fails is undone."""
    with path.open("r+b", buffering=0) as file:
        if len(after) > len(before) and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, len(after))  # so that a full disk is found before anything is lost
        try:
            _fill(file.fileno(), after)
        except BaseException:
            _fill(file.fileno(), before)
            raise


def _fill(descriptor: int, data: bytes) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.ftruncate(descriptor, len(data))
    os.fsync(descriptor)
