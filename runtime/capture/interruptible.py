"""Blocking calls that Ctrl-C can interrupt: opening a pipe, a server that does not answer, a driver that hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class _Call(Generic[Result]):
    """A call in a thread of its own; its caller may have stopped waiting for it."""

    def __init__(self, function: Callable[[], Result], discard: Callable[[Result], None]) -> None:
        self._function = function
        self._discard = discard
        self._lock = threading.Lock()
        self._abandoned = False
        self.done = threading.Event()
        self.result: list[Result] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            self.error = error
        else:
            with self._lock:
                self.result.append(result)
                late = self._abandoned
            if late:
                self._discard(result)
        self.done.set()

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            late = bool(self.result)
        if late:
            self._discard(self.result[0])


def interruptible(function: Callable[[], Result], discard: Callable[[Result], None]) -> Result:
    """`function()`, during which Ctrl-C works even where it blocks in a library: it goes on in a thread left behind.

    What comes of it then is given to `discard`.
    """
    call = _Call(function, discard)
    threading.Thread(target=call.run, name="opening", daemon=True).start()
    try:
        call.done.wait()  # a lock, which Python's signal handlers interrupt
    except BaseException:
        call.abandon()
        raise
    if call.error is not None:
        raise call.error
    return call.result[0]
