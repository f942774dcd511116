"""A program started for each event."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from ....bundle.errors import UsageError
from .options import CommandOptions
from .receiver import Refused, Undelivered
from .spool import SpooledEvent

if TYPE_CHECKING:
    from typing_extensions import Self

_TICKS = 0.001, 0.05  # seconds between two looks at whether it has ended, least and most
_TAIL = 4096  # bytes at the end of standard error that are looked at
_MOST = 2**20  # bytes of standard error after which all but its end is let go of
_PUNCH_HOLE = 0x03  # of fallocate(2), with the size as it is


class CommandReceiver:
    """The event is on the program's standard input, as JSON. An exit code other than 0 is told; it is not run again.

    The program has a session of its own, which is ended with all that the program has started when its time is up, or
    the run's. What it has started when it ends by itself goes on.
    """

    def __init__(self, options: CommandOptions) -> None:
        """Raises `UsageError` for a program that is not there."""
        if shutil.which(options.run[0]) is None:
            name = options.run[0][:200]
            raise UsageError(f"there is no program {name!r} to start for events; give a path, or a name on the PATH")
        self._options = options
        self.key = "command-" + hashlib.sha256(json.dumps(options.run).encode()).hexdigest()[:16]
        self.name = f"command {options.run[0]}"

    def deliver(self, event: SpooledEvent, stopped: Callable[[], bool]) -> None:
        """Run the program and wait for its end."""
        with _Words() as words:
            code = self._run(event, words, stopped)
            if code:
                raise Refused(f"exit code {code}{': ' + words.last if words.last else ''}")

    def close(self) -> None:
        """Nothing is held open."""

    def _run(self, event: SpooledEvent, words: _Words, stopped: Callable[[], bool]) -> int:
        """The exit code."""
        try:
            program = subprocess.Popen(
                self._options.run,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words.stream,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise Undelivered(f"it cannot be started ({getattr(error, 'strerror', None) or error})") from error
        assert program.stdin is not None
        try:
            line = f"{event.text}\n".encode("utf-8", "replace")
            writer = threading.Thread(target=_write, args=(program.stdin, line), daemon=True)
            writer.start()
            return self._code(program, words, stopped)
        except BaseException:
            _kill(program)
            raise

    def _code(self, program: subprocess.Popen[bytes], words: _Words, stopped: Callable[[], bool]) -> int:
        """Wait for the end of `program`, which is ended where it takes too long."""
        end, tick = time.monotonic() + self._options.timeout, _TICKS[0]
        while (code := program.poll()) is None:
            if stopped():
                raise Undelivered("it was ended with the run", wait=False)
            if time.monotonic() >= end:
                raise Refused(f"it was ended after {self._options.timeout:g} s")
            time.sleep(tick)
            words.shorten()
            tick = min(_TICKS[1], 2 * tick)
        return code


class _Words:
    """What a program says, in a file without a name.

    Not in a pipe: what it leaves in the background would have to be listened to for as long as it lives.
    """

    def __init__(self) -> None:
        self._cut = 0  # bytes at the last cut
        self._file: IO[bytes] | None = None
        with suppress(OSError):  # of a full disk; then what it says is not kept
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - `__exit__` closes it
            fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) | os.O_APPEND)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def stream(self) -> IO[bytes] | int:
        """For a program's standard error."""
        return subprocess.DEVNULL if self._file is None else self._file

    @property
    def last(self) -> str:
        """The last line."""
        if self._file is None:
            return ""
        end = os.pread(self._file.fileno(), _TAIL, max(0, os.fstat(self._file.fileno()).st_size - _TAIL))
        lines = end.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def shorten(self) -> None:
        """Let go of what was said but its end, once it is much more than before."""
        if self._file is None or (size := os.fstat(self._file.fileno()).st_size) < self._cut + _MOST:
            return
        self._cut = size
        with suppress(AttributeError):  # on another system than Linux, the file stays whole
            # A hole: whatever is said meanwhile is appended, which a cut would lose.
            ctypes.CDLL(None).fallocate(
                self._file.fileno(), _PUNCH_HOLE, ctypes.c_int64(0), ctypes.c_int64(size - _TAIL)
            )


def _write(stream: IO[bytes], data: bytes) -> None:
    """Give a program its input; one that does not read it ends this with its own end."""
    with suppress(OSError), stream:
        rest = memoryview(data)
        while rest:
            rest = rest[stream.write(rest) :]


def _kill(program: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # one that hangs in a driver ends later
        program.wait(1)
