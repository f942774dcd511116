"""Events appended to a file."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from ....bundle.errors import UsageError
from ....bundle.files import refuse_address, refuse_pipe
from .options import JsonLinesOptions
from .receiver import Undelivered
from .spool import SpooledEvent

_BEGIN = b'{"id": "'  # of every event


class JsonLinesReceiver:
    """One JSON object a line, appended to what is there. The file is opened for each event: it may be rotated."""

    def __init__(self, options: JsonLinesOptions) -> None:
        """Raises `UsageError` for a file that holds something else, and for a folder."""
        self._path = options.path
        if options.path != "-":
            _refuse_other(options.path)
        place = options.path if options.path == "-" else str(Path(options.path).absolute())
        self.key = "lines-" + hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.name = "events on standard output" if options.path == "-" else f"events in {options.path}"

    def deliver(self, event: SpooledEvent, stopped: Callable[[], bool]) -> None:
        """Append the event's line."""
        data = (event.text + "\n").encode("utf-8", "replace")
        try:
            if self._path == "-":
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
                return
            handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                _append(handle, data)
            finally:
                os.close(handle)
        except (OSError, ValueError) as error:
            raise Undelivered(getattr(error, "strerror", None) or str(error)) from error

    def close(self) -> None:
        """Nothing is held open."""


def _refuse_other(path: str) -> None:
    """A file is added to that begins with an event, whole or cut by a kill, or is empty; nothing else is touched."""
    refuse_address(path, "the file of events")
    refuse_pipe(path, "the file of events")
    try:
        if os.path.isdir(path):
            raise UsageError(f"events cannot be written to {path}, a folder; give a name such as events.jsonl")
        if not os.path.isfile(path):
            return
        with open(path, "rb") as stream:
            begin = stream.read(len(_BEGIN))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"events cannot be written to {path} ({reason}); choose another file") from error
    if not _BEGIN.startswith(begin):
        raise UsageError(f"{path} exists and does not begin with an event; choose another name, such as events.jsonl")


def _append(handle: int, data: bytes) -> None:
    """Write `data` whole, or leave the file as it was."""
    size = os.fstat(handle).st_size
    if size:
        try:
            if os.pread(handle, 1, size - 1) != b"\n":  # half a line, from a kill
                data = b"\n" + data
        except OSError:  # a pipe or device
            pass
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(handle, rest) :]
    except OSError:
        if len(rest) < len(data):
            os.ftruncate(handle, size)
        raise
