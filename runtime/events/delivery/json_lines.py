"""Events appended to a file."""

from __future__ import annotations

import hashlib
import os
import select
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from ....bundle.errors import UsageError
from ....bundle.files import refuse_address, refuse_pipe
from ..config import is_there
from .options import JsonLinesOptions
from .receiver import ReceiverGone, Undelivered
from .spool import SpooledEvent

_BEGIN = b'{"id": "'  # of every event
_TICK = 50  # milliseconds between two looks at whether the run has ended


class JsonLinesReceiver:
    """One JSON object a line, appended to what is there. The file is opened for each event: it may be rotated."""

    def __init__(self, options: JsonLinesOptions) -> None:
        """Raises `UsageError` for a file that holds something else or cannot be written, and for a folder."""
        self._path = options.path
        self._half: tuple[int, memoryview] | None = None  # place of the event whose line is half written, and the rest
        self.key: str | None = None
        if options.path == "-":
            if sys.stdout is None:  # closed by the shell: >&-
                raise UsageError("events cannot be written to standard output, which is closed; give a file")
            self.name = "events on standard output"
            return
        _refuse_other(options.path)
        place = str(Path(options.path).absolute())
        self.key = "lines-" + hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.name = f"events in {options.path}"

    def deliver(self, event: SpooledEvent, stopped: Callable[[], bool]) -> None:
        """Append the event's line."""
        data = (event.text + "\n").encode("utf-8", "replace")
        try:
            if self._path == "-":
                self._print(event.place, data, stopped)
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

    def _print(self, place: int, data: bytes, stopped: Callable[[], bool]) -> None:
        """Write a line on standard output, as fast as it is read. Raises `ReceiverGone` once nobody reads it."""
        output, rest = sys.stdout.fileno(), memoryview(data)
        if self._half is not None:
            # Another event's half line is one that was dropped meanwhile.
            rest = self._half[1] if self._half[0] == place else memoryview(b"\n" + data)
        ready = select.poll()
        ready.register(output, select.POLLOUT)
        while rest:
            if not ready.poll(_TICK):
                if stopped():
                    raise Undelivered("nobody reads it", wait=False)
                continue
            try:
                # A pipe that is ready takes as many bytes at once.
                rest = rest[os.write(output, rest[: select.PIPE_BUF]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise ReceiverGone from error
            self._half = (place, rest)
        self._half = None


def _refuse_other(path: str) -> None:
    """A file is added to that begins with an event, whole or cut by a kill, or is empty; nothing else is touched."""
    refuse_address(path, "the file of events")
    refuse_pipe(path, "the file of events")
    try:
        if not is_there(Path(path)):
            _refuse_unwritable_folder(path)
            return
        mode = os.stat(path).st_mode  # or raises, for a name that is too long
        if stat.S_ISDIR(mode):
            raise UsageError(f"events cannot be written to {path}, a folder; give a name such as events.jsonl")
        if not os.access(path, os.W_OK):
            raise UsageError(f"events cannot be written to {path}; let this user write it, or give another file")
        if not stat.S_ISREG(mode):
            return
        with open(path, "rb") as stream:
            begin = stream.read(len(_BEGIN))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"events cannot be written to {path} ({reason}); choose another file") from error
    if not _BEGIN.startswith(begin):
        raise UsageError(f"{path} exists and does not begin with an event; choose another name, such as events.jsonl")


def _refuse_unwritable_folder(path: str) -> None:
    """Raise `UsageError` where no file can be made at `path`, which a link may name."""
    folder = os.path.dirname(os.path.realpath(path) if os.path.islink(path) else path) or "."
    if not os.path.isdir(folder):
        raise UsageError(
            f"events cannot be written to {path}: there is no folder {folder}; make it, or give another file"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"events cannot be written to {path}; let this user write in {folder}")


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
