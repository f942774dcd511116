"""Errors that nobody foresaw: told once on stderr, while the viewer goes on for everyone else."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from ...bundle.errors import OvsError


class Faults:
    """What went wrong so far, by the kind of error and the line that raised it; the rest is repetition."""

    def __init__(self) -> None:
        self._told: set[tuple[type[BaseException], str, int | None]] = set()

    def tell(self, what: str, error: BaseException) -> None:
        """Say that `what` failed: an expected error in one line, any other with its traceback."""
        at = traceback.extract_tb(error.__traceback__)[-1:]
        place = (type(error), at[0].filename, at[0].lineno) if at else (type(error), "", None)
        if place in self._told:
            return
        self._told.add(place)
        if isinstance(error, OvsError):
            reason = str(error)
        else:
            reason = "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
        with suppress(OSError, ValueError):  # a terminal that has gone away must not take the viewer with it
            print(f"web viewer: {what}: {reason}", file=sys.stderr, flush=True)


class FaultLog(logging.Handler):
    """Tells of the errors that a library logs, but for those that `expected` says are a client's doing."""

    def __init__(self, faults: Faults, expected: Callable[[BaseException], bool]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults
        self._expected = expected

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of a record."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not self._expected(error):
            self._faults.tell(record.getMessage(), error or RuntimeError("no more is known"))
