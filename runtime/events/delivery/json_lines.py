"""Events appended to a file."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .options import JsonLinesOptions
from .receiver import Undelivered
from .spool import SpooledEvent


class JsonLinesReceiver:
    """One JSON object a line, appended to what is there. The file is opened for each event: it may be rotated."""

    def __init__(self, options: JsonLinesOptions) -> None:
        self._path = options.path
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
