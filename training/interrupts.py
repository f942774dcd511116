"""SIGINT, SIGTERM and SIGHUP while training: the step under way is finished and the state saved before the run ends."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Interrupted(Exception):
    """A run was asked to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class StopSignals:
    """Remembers that a signal asked the run to stop, until the run comes to a good place to do so.

    A second SIGINT raises `KeyboardInterrupt` anywhere; further signals of the other kinds change nothing, since a
    process manager sends them again and again.
    """

    def __init__(self, *, together: bool = False) -> None:
        """`together`: one of several processes, which stop after the same step and nowhere else."""
        self.number = 0  # of the first signal; 0: none so far
        self._together = together
        self._at_once = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Take the signals for the time of the block. Python lets only the main thread do so; elsewhere nothing
        changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For long work that may be broken off: a signal raises `Interrupted` in the midst of the block."""
        if self._together:
            yield
            return
        self.raise_if(self.number)
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def raise_if(self, number: int) -> None:
        """Raise `Interrupted` where `number` is that of a signal, this process's or one that another process met."""
        if number:
            self.number = number
            raise Interrupted(number)

    def _on_signal(self, number: int, stack: FrameType | None) -> None:
        if self.number:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.number = number
        if self._at_once:
            raise Interrupted(number)


@contextmanager
def children_checked_after() -> Iterator[None]:
    """The end of a child process is noticed after the block, not within.

    torch raises an error for a dead reading process from its handler of SIGCHLD, in the midst of whatever is done.
    """
    handler = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    ended: list[int] = []
    signal.signal(signal.SIGCHLD, lambda number, frame: ended.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)
    if ended:
        handler(signal.SIGCHLD, None)


def begin_reading(worker: int) -> None:
    """What a process that reads photos does first: it leaves signals to the main process, and ends with it.

    A terminal sends Ctrl-C and its own end to all of a command's processes.
    """
    for number in _SIGNALS:
        if number != signal.SIGTERM:  # with which torch ends them
            signal.signal(number, signal.SIG_IGN)
    _end_with_the_main_process()


def _end_with_the_main_process() -> None:
    """Have Linux end this process when the main process is killed, else it fails with a traceback at its next batch."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    main = multiprocessing.parent_process()
    if main is not None and os.getppid() != main.pid:  # it was killed before that
        os._exit(1)
