"""Files on this machine, and in object stores (`s3://`, `gs://`) through the file systems of pyarrow."""

from __future__ import annotations

import re
from functools import cache
from typing import IO, Any

from ...bundle.addresses import redact_address, scheme_of
from ...bundle.errors import SourceError, UsageError, require
from ...bundle.files import at_most
from ...bundle.image_files import MOST_BYTES
from ...runtime.capture.names import safe_name

REMOTE = ("s3", "gs")


def is_remote(place: str) -> bool:
    """Whether a place is in an object store. Raises `UsageError` for any other scheme, and for a password in it."""
    scheme = scheme_of(place)
    if scheme is None:
        return False
    if scheme not in REMOTE:
        raise UsageError(
            f"{redact_address(place)[:200]!r} cannot be labelled, expected files and folders of this machine, s3:// or "
            "gs://; record a stream with ovs-run, or download the file"
        )
    if "@" in place.split("?")[0]:
        raise UsageError(
            "an address of an object store holds a user or password, which would stand in the manifest; leave it out and "
            "set the credentials of the environment"
        )
    return True


def file_system(place: str) -> tuple[Any, str]:
    """pyarrow's file system of a remote place, and the path in it. Raises `SourceError`."""
    base, mark, query = place.partition("?")
    scheme, _, path = base.partition("://")
    bucket = path.partition("/")[0]
    return _bucket(f"{scheme}://{bucket}{mark}{query}"), path


@cache
def _bucket(address: str) -> Any:
    fs = require("pyarrow.fs", "label")
    try:
        return fs.FileSystem.from_uri(address)[0]
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot open {shown(address)} ({error}); check the address") from error


def shown(place: str) -> str:
    """A place for people: an address without its query and without secrets, a path as text that any file can hold."""
    text = redact_address(place.partition("?")[0] if is_remote(place) else place)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a name that is not UTF-8
        return safe_name(text)
    return text


def joined(place: str, name: str) -> str:
    """`name` below a remote place; the query of an address stays at its end."""
    base, mark, query = place.partition("?")
    return f"{base.rstrip('/')}/{name}{mark}{query}"


def read_bytes(place: str, offset: int = 0, size: int | None = None) -> bytes:
    """A file's content, or `size` bytes of it from `offset`. Raises `SourceError`."""
    try:
        with open_file(place) as stream:
            if offset:
                stream.seek(offset)
            return at_most(stream.read(MOST_BYTES + 1 if size is None else size), MOST_BYTES)
    except OSError as error:
        raise cannot_read(place, error) from error


def open_file(place: str) -> IO[bytes]:
    """A file, open to be read at any position. What the system refuses raises its own `OSError`."""
    if is_remote(place):
        files, path = file_system(place)
        stream: IO[bytes] = files.open_input_file(path)
        return stream
    return open(place, "rb")


def cannot_read(place: str, error: OSError) -> SourceError:
    """The one line for a file that cannot be read."""
    reason = error.strerror or re.sub(r"\s+", " ", str(error))[:200]
    return SourceError(f"cannot read {shown(place)} ({reason}); check the file and its permissions")


def list_remote(place: str, *, recursive: bool) -> list[str]:
    """Places of the files at or below a remote place, sorted. Raises `SourceError`."""
    fs = require("pyarrow.fs", "label")
    files, path = file_system(place)
    try:
        found = files.get_file_info(path.rstrip("/"))
        if found.type == fs.FileType.File:
            return [place]
        entries = files.get_file_info(fs.FileSelector(path.rstrip("/"), recursive=recursive))
    except OSError as error:
        raise cannot_read(place, error) from error
    scheme, _, rest = place.partition("://")
    _, mark, query = rest.partition("?")
    names = sorted(entry.path for entry in entries if entry.type == fs.FileType.File)
    return [f"{scheme}://{name}{mark}{query}" for name in names]
