"""Progress: a bar on a terminal, and a line now and then where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_SECONDS = 30.0  # between lines where there is no terminal


class ProgressReport:
    """How far some work has come."""

    def __init__(self, console: Console, name: str, total: int, done: int) -> None:
        self._console, self._name, self._total = console, name, total
        self._done, self._first = done, done
        self._started = self._printed = time.monotonic()
        self._bar = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(name, total=total, completed=done)
            self._bar.start()

    def advance(self, count: int) -> None:
        """`count` more are done."""
        self.update(self._done + count)

    def update(self, done: int, about: str = "") -> None:
        """`done` of all are done; `about`: further words, such as the loss."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=f"{self._name} {about}".strip())
        elif time.monotonic() - self._printed >= LINE_SECONDS or (done == self._total and done > self._first):
            self._printed = time.monotonic()
            self._console.print(
                f"{self._name} {done}/{self._total} {about}".rstrip() + self._remaining(), markup=False, soft_wrap=True
            )

    def _remaining(self) -> str:
        fresh, seconds = self._done - self._first, time.monotonic() - self._started
        if not fresh or self._done >= self._total:
            return f", {seconds:.0f} s"
        return f", {seconds:.0f} s, {(self._total - self._done) * seconds / fresh:.0f} s to go"

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress_bar(console: Console, name: str, total: int, done: int = 0) -> Iterator[ProgressReport]:
    """A report of work on `total` items, `done` of them before."""
    report = ProgressReport(console, name, total, done)
    try:
        yield report
    finally:
        report.close()
