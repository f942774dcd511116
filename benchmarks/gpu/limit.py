"""A function in a process of its own that is ended when its time is over: whatever hangs in a driver, the rest goes on.

It also leaves no memory of one part's engines on the GPU for the next.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...bundle.errors import OvsError, SourceError

_PATIENCE = 10.0  # seconds that a process gets to end after it was told to


def run_limited(function: Callable[..., Any], arguments: tuple[Any, ...], seconds: float) -> Any:
    """`function(*arguments)`, both of which can be pickled, and so can the result.

    Raises what it raises if that is an `OvsError`, else `SourceError`: for any other error, a process that died, and
    one that was still running after `seconds`.
    """
    context = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "answer"
        process = context.Process(target=_answer, args=(function, arguments, answer), daemon=False)
        process.start()
        try:
            process.join(seconds)
            if process.is_alive():
                raise SourceError(f"it did not end within {seconds / 60:.1f} minutes and was stopped")
        finally:
            _end(process)
        if not answer.is_file():
            raise SourceError(f"its process ended with exit code {process.exitcode}; memory may have run out")
        result, error = pickle.loads(answer.read_bytes())
    if error is not None:
        raise error
    return result


def _end(process: BaseProcess) -> None:
    """End a process, and those that it started: they are of its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.is_alive():
            _signal(process, number)
            process.join(_PATIENCE)
    _signal(process, signal.SIGKILL)


def _signal(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:  # it has no group of its own yet, or nobody is left in it
        if process.is_alive():
            os.kill(process.pid, number)


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...], answer: Path) -> None:
    """In the child: write the result and the error, one of which is None."""
    result, error = None, None
    os.setsid()  # a group with all that it starts
    try:
        result = function(*arguments)
    except OvsError as raised:
        error = type(raised)(str(raised))
    except Exception as raised:  # noqa: BLE001 - an engine raises anything
        error = SourceError(f"{type(raised).__name__}: {' '.join(str(raised).split())[:300]}")
    work = answer.with_suffix(".work")
    work.write_bytes(pickle.dumps((result, error)))
    work.replace(answer)  # a process that dies while it writes leaves no half an answer
