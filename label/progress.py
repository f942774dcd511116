"""Progress of a job: how many pictures, how fast, how long still. A bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

_FIRST, _INTERVAL = 5.0, 30.0  # seconds until the first line, and between two
_WINDOW = 60.0  # seconds over which the rate is taken


class LabelProgress(Protocol):
    """What is told of every picture, from any thread."""

    labelled: int  # of this run
    bad: int

    def tell(self, labelled: bool) -> None:  # noqa: FBT001 - a callback
        """A picture was labelled, or could not be."""
        ...


class Rate:
    """Pictures a second over the last minute."""

    def __init__(self, now: float) -> None:
        self._marks: deque[tuple[float, int]] = deque([(now, 0)])

    def at(self, now: float, done: int) -> float:
        """The rate when `done` pictures are done at `now` seconds."""
        if now - self._marks[-1][0] >= 1:
            self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW:
            self._marks.popleft()
        start, before = self._marks[0]
        return (done - before) / (now - start) if now > start else 0.0


class _Counts:
    """What both kinds of progress count."""

    def __init__(self, total: int | None, done: int) -> None:
        self.labelled = self.bad = 0
        self._total = total
        self._before = done
        self._lock = threading.Lock()
        self._rate = Rate(time.monotonic())

    def _count(self, now: float, *, labelled: bool) -> tuple[int, str]:
        """One picture more, at `now` seconds: how many are done, and the line that says so. Needs the lock."""
        self.labelled += labelled
        self.bad += not labelled
        own = self.labelled + self.bad
        done = self._before + own
        return done, progress_line(done, self._total, self._rate.at(now, own), self.bad)


class TextProgress(_Counts):
    """A line on standard error every half minute."""

    def __init__(self, total: int | None, done: int) -> None:
        super().__init__(total, done)
        self._due = time.monotonic() + _FIRST

    def tell(self, labelled: bool) -> None:  # noqa: FBT001 - a callback
        """See `LabelProgress`."""
        with self._lock:
            now = time.monotonic()
            _, line = self._count(now, labelled=labelled)
            if now < self._due:
                return
            self._due = now + _INTERVAL
        print(line, file=sys.stderr, flush=True)


def progress_line(done: int, total: int | None, rate: float, bad: int) -> str:
    """`1200 of 20000 pictures, 31.2 a second, 10 min left`."""
    of = f" of {total}" if total is not None else ""
    left = f", {_duration((total - done) / rate)} left" if total is not None and rate > 0 and total > done else ""
    problems = f", {bad} bad" if bad else ""
    return f"{done}{of} pictures, {rate:.1f} a second{left}{problems}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class _Bar(_Counts):
    """rich's bar, on a terminal."""

    def __init__(self, total: int | None, done: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        super().__init__(total, done)
        self.bar = Bar(BarColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True)
        self._task = self.bar.add_task(progress_line(done, total, 0, 0), total=total, completed=done)

    def tell(self, labelled: bool) -> None:  # noqa: FBT001 - a callback
        with self._lock:
            done, line = self._count(time.monotonic(), labelled=labelled)
        self.bar.update(self._task, completed=done, description=line)


@contextmanager
def progress(total: int | None, done: int) -> Iterator[LabelProgress]:
    """Progress on standard error; `done` of `total` pictures were done by earlier runs."""
    if not sys.stderr.isatty():
        yield TextProgress(total, done)
        return
    shown = _Bar(total, done)
    with shown.bar:
        yield shown
