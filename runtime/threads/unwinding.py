"""Signals that end a command by an exception, again and again until one gets through."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ...bundle.errors import Terminated

_AGAIN = 0.2  # seconds until a signal whose exception was swallowed is raised once more


@contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise `Terminated`, so that temporary files are removed on the way out.

    An exception that a handler raises can be lost: Python ignores one within `__del__` and callbacks of weak references,
    of which torch has thousands, and torch's exporter tries another way after whatever error came out of its first. So
    it is raised again, SIGINT's `KeyboardInterrupt` too, until the block is left. While it unwinds the stack, further
    signals are ignored, except a SIGINT. A signal that is ignored, as SIGHUP under nohup, stays ignored.
    """
    before = {number: signal.getsignal(number) for number in _numbers()}
    ours = (signal.SIG_DFL, signal.default_int_handler)
    unwinding = _Unwinding()
    hook = sys.unraisablehook
    taken = [number for number, handler in before.items() if handler in ours]
    for number in taken:
        signal.signal(number, unwinding.stop)
    sys.unraisablehook = lambda lost: None if isinstance(lost.exc_value, _ENDINGS) else hook(lost)
    try:
        yield
    finally:
        unwinding.leave()
        sys.unraisablehook = hook
        for number in taken:
            signal.signal(number, before[number])


_ENDINGS = (KeyboardInterrupt, Terminated)


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _send(number: int) -> None:
    """To the main thread, which may wait in a system call."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:  # Windows
        signal.raise_signal(number)


class _Unwinding:
    """The first signal that came, and the thread that sends it again."""

    def __init__(self) -> None:
        self._left = threading.Event()  # the block has been left
        self._sending = threading.Lock()  # held while a signal is sent, which must find its handler
        self._number = 0  # of the first signal
        self._repeats = False  # whether the signal that is handled next is one that was sent again

    def leave(self) -> None:
        """Send nothing from now on."""
        with self._sending:
            self._left.set()

    def stop(self, number: int, frame: FrameType | None) -> None:
        repeats, self._repeats = self._repeats, False
        if not self._number:
            self._number = number
            threading.Thread(target=self._repeat, name="signal", daemon=True).start()
        elif self._is_under_way(sys.exc_info()[1]) and (repeats or number != signal.SIGINT):
            return
        if self._number == signal.SIGINT:
            Terminated.latest = signal.SIGINT
            raise KeyboardInterrupt
        raise Terminated(self._number)

    def _repeat(self) -> None:
        while not self._left.wait(_AGAIN):
            with self._sending:
                if not self._left.is_set():
                    self._repeats = True
                    _send(self._number)

    @staticmethod
    def _is_under_way(error: BaseException | None) -> bool:
        """Whether an exception of a signal, or an error that came of one, is being handled."""
        seen: set[int] = set()
        waiting = [error]
        while waiting:
            error = waiting.pop()
            if error is None or id(error) in seen:
                continue
            if isinstance(error, _ENDINGS):
                return True
            seen.add(id(error))
            waiting += [error.__cause__, error.__context__]
        return False
