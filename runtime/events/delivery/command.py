"""A program started for each event."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from ....bundle.errors import UsageError
from .options import CommandOptions
from .receiver import Refused, Undelivered
from .spool import SpooledEvent

_TICKS = 0.001, 0.05  # seconds between two looks at whether it has ended, least and most
_TAIL = 4096  # bytes of standard error that are kept, its last ones
_WORDS = 0.2  # seconds for the rest of standard error, once the program has ended
_CHUNK = 65536


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
        try:
            program = subprocess.Popen(
                self._options.run,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise Undelivered(f"it cannot be started ({getattr(error, 'strerror', None) or error})") from error
        assert program.stdin is not None and program.stderr is not None
        try:
            words = _Tail(program.stderr)
            writer = threading.Thread(
                target=_write, args=(program.stdin, event.text.encode("utf-8", "replace")), daemon=True
            )
            writer.start()
            code = self._code(program, stopped)
        except BaseException:
            _kill(program)
            raise
        if code:
            text = words.text
            raise Refused(f"exit code {code}{': ' + text if text else ''}")

    def close(self) -> None:
        """Nothing is held open."""

    def _code(self, program: subprocess.Popen[bytes], stopped: Callable[[], bool]) -> int:
        """The exit code of `program`, which is ended where it takes too long."""
        end, tick = time.monotonic() + self._options.timeout, _TICKS[0]
        while (code := program.poll()) is None:
            if stopped():
                raise Undelivered("it was ended with the run", wait=False)
            if time.monotonic() >= end:
                raise Refused(f"it was ended after {self._options.timeout:g} s")
            time.sleep(tick)
            tick = min(_TICKS[1], 2 * tick)
        return code


class _Tail:
    """The end of what a program says, read by a thread until nobody can say more: nobody is held up by a full pipe, and
    no more than the end is in memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, name="standard error of a command", daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """The last line, once the program has ended."""
        self._thread.join(_WORDS)
        lines = self._kept.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else ""

    def _read(self) -> None:
        with self._stream, suppress(OSError):
            while data := self._stream.read(_CHUNK):
                self._kept = (self._kept + data)[-_TAIL:]


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
