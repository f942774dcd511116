"""A worker thread that runs the newest task only; tasks that a newer one replaced are dropped."""

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
    """The task was dropped before it was started, because a newer one was submitted."""


class NewestTaskWorker(Generic[Task, Result]):
    """Runs `work` in its own thread, one task at a time; of the tasks that wait only the newest is kept.

    So of a thousand tasks submitted at once two are run: the first and the last.
    """

    def __init__(self, name: str, work: Callable[[Task], Result], prepare: Callable[[], None] | None = None) -> None:
        """`name` is the thread's. `prepare` runs first in it; its errors are ignored, since `work` will meet them again."""
        self._name = name
        self._work = work
        self._prepare = prepare
        self._changed = threading.Condition()
        self._waiting: tuple[Task, Future[Result]] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, task: Task) -> Future[Result]:
        """Future of the result. It raises what `work` raises, or `Superseded` if a newer task replaced this one."""
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                future.set_exception(Superseded("the run is ending; no more tasks are accepted"))
                return future
            overtaken, self._waiting = self._waiting, (task, future)
            self._changed.notify()
        self.start()
        _drop(overtaken)
        return future

    def start(self) -> None:
        """Start the thread now instead of with the first task."""
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Drop the waiting task, and wait for the running one."""
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
            except BaseException as error:  # noqa: BLE001 - the future carries it; this thread goes on
                future.set_exception(error)
            else:
                future.set_result(result)


def _drop(entry: tuple[Task, Future[Result]] | None) -> None:
    if entry is not None and entry[1].set_running_or_notify_cancel():
        entry[1].set_exception(Superseded("a newer request replaced this one"))
