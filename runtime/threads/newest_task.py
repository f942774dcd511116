"""A thread that does the newest of what is asked of it, and skips what was overtaken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

from ...bundle.errors import OvsError

Task = TypeVar("Task")
Result = TypeVar("Result")

_PATIENCE = 5.0  # seconds that `close` waits for the work under way


class Superseded(OvsError):
    """What was asked was dropped unbegun, since something newer was asked for."""


class NewestTaskWorker(Generic[Task, Result]):
    """`work` in a thread of its own, one task at a time; of those that wait only the last is kept.

    So a thousand tasks submitted at once cost two: the one under way and the last.
    """

    def __init__(self, name: str, work: Callable[[Task], Result], prepare: Callable[[], None] | None = None) -> None:
        """`name` is the thread's. `prepare` is the first thing it does; a failure there is left for `work` to meet."""
        self._name = name
        self._work = work
        self._prepare = prepare
        self._changed = threading.Condition()
        self._waiting: tuple[Task, Future[Result]] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, task: Task) -> Future[Result]:
        """The result to come. It raises what `work` raises, or `Superseded` if a newer task took its place."""
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                future.set_exception(Superseded("the run is ending; nothing more is taken on"))
                return future
            overtaken, self._waiting = self._waiting, (task, future)
            self._changed.notify()
        self.start()
        _drop(overtaken)
        return future

    def start(self) -> None:
        """Start the thread, which the first task would do otherwise."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Drop what waits, and wait for what is under way."""
        with self._changed:
            self._closed = True
            overtaken, self._waiting = self._waiting, None
            self._changed.notify()
        _drop(overtaken)
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _run(self) -> None:
        if self._prepare is not None:
            with suppress(Exception):
                self._prepare()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                if self._waiting is None:
                    return
                (task, future), self._waiting = self._waiting, None
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = self._work(task)
            except BaseException as error:  # noqa: BLE001 - whoever asked is told; this thread goes on
                future.set_exception(error)
            else:
                future.set_result(result)


def _drop(entry: tuple[Task, Future[Result]] | None) -> None:
    if entry is not None and entry[1].set_running_or_notify_cancel():
        entry[1].set_exception(Superseded("a later request took the place of this one"))
