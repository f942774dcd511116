"""Unexpected errors of the web viewer or `ovs-serve`: reported once each on stderr, while it serves everybody else."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from ...bundle.addresses import redact
from ...bundle.errors import OvsError


class ErrorReporter:
    """Prints each error once: repetitions are known by the type of the error and the line that raised it."""

    def __init__(self, program: str = "web viewer") -> None:
        self._program = program
        self._reported: set[tuple[type[BaseException], str, int | None]] = set()

    def report(self, what: str, error: BaseException) -> None:
        """Print that `what` failed: an expected error in one line, any other with its traceback."""
        at = traceback.extract_tb(error.__traceback__)[-1:]
        place = (type(error), at[0].filename, at[0].lineno) if at else (type(error), "", None)
        if place in self._reported:
            return
        self._reported.add(place)
        if isinstance(error, OvsError):
            reason = str(error)
        else:
            reason = "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
        with suppress(OSError, ValueError):  # a closed terminal must not stop the viewer
            print(f"{self._program}: {what}: {redact(reason)}", file=sys.stderr, flush=True)


class ErrorLogHandler(logging.Handler):
    """Reports the errors that a library logs, except those that `expected` attributes to a client."""

    def __init__(self, errors: ErrorReporter, expected: Callable[[BaseException], bool]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors
        self._expected = expected

    def emit(self, record: logging.LogRecord) -> None:
        """Report a record."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not self._expected(error):
            self._errors.report(record.getMessage(), error or RuntimeError("no further information"))
