"""The errors a user can cause or meet. Every message says what was found, what was expected, what to do next.

OvsError                    one line on the terminal, exit code 2
├── UsageError              an impossible option, size or list of classes
├── CheckpointError         a training checkpoint that is missing, broken, foreign or unsafe
├── BundleError             a bundle that is missing, damaged or of a newer schema
├── PlanError               a TensorRT plan that is missing, damaged or foreign, or cannot be built
├── DatasetError            training data that cannot be read
├── SourceError             a camera, photo or video that cannot be read
├── SinkError               an output that cannot be written
├── MissingExtraError       a package that an optional part needs
└── ParityError             an artefact differs from the one it came from; exit code 3
"""

from __future__ import annotations

import codecs
import errno
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from types import ModuleType
from typing import ClassVar, NoReturn, TextIO

from .addresses import shown_line, shown_text

_telling = threading.RLock()  # one that a signal's handler may take again


class OvsError(Exception):
    """Base of every error that a user can correct; `str(error)` is a single line."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # Drivers and libraries quote addresses, too: no password gets into a message.
        super().__init__(shown_line(message))


def reason_of(error: BaseException) -> str:
    """One line about an error: its message, with its type where the message was not written for users."""
    return str(error) if isinstance(error, OvsError) else f"{type(error).__name__}: {error}"


class UsageError(OvsError):
    """An impossible request: an option, a size, a list of classes."""


class CheckpointError(OvsError):
    """A checkpoint that is missing, truncated, foreign or unsafe to load."""


class BundleError(OvsError):
    """A bundle that is missing, incomplete, altered, or written by a newer version."""


class PlanError(OvsError):
    """A TensorRT plan that is missing, altered, made for another device, or cannot be built or run."""


class DatasetError(OvsError):
    """Training or validation data that cannot be read."""


class SourceError(OvsError):
    """A camera, photo or video that cannot be opened or decoded."""


class SinkError(OvsError):
    """An output that cannot be written."""


class MissingExtraError(OvsError):
    """A package that belongs to an extra which is not installed."""


class ParityError(OvsError):
    """An artefact differs from its source by more than the acceptance threshold."""

    exit_code = 3


class Terminated(SystemExit):
    """SIGTERM or SIGHUP: everything unwinds as after Ctrl-C, so that nothing half written stays; exit code 128 + n."""

    latest: ClassVar[int] = 0  # number of the latest signal, of which a library may have made an error of its own

    def __init__(self, number: int) -> None:
        Terminated.latest = number
        super().__init__(128 + number)


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise `MissingExtraError` naming the extra of `ovs-edge` that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if was_interrupted(error):
            raise KeyboardInterrupt from error
        raise MissingExtraError(
            f"cannot import {module} ({error}); it comes with the extra '{extra}': pip install 'ovs-edge[{extra}]'"
        ) from error


def was_interrupted(error: BaseException) -> bool:
    """Whether an error came of Ctrl-C: a library written in C that is interrupted while it is imported says
    "initialization failed"."""
    cause = error.__cause__ or (None if isinstance(error, OvsError) else error.__context__)
    return isinstance(error, KeyboardInterrupt) or (cause is not None and was_interrupted(cause))


def exit_on_error(command: Callable[[], object]) -> None:
    """Run a console command; an `OvsError` becomes one line on stderr and its exit code.

    Whatever becomes of standard output or standard error (a pipe whose reader left, a full disk, another character set,
    closed), there is no traceback, and the exit code is the same.
    """
    Terminated.latest = 0  # of an earlier command in this process
    _prepare_streams()
    try:
        _run(command)
    finally:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            _abandon(sys.stderr)


def _run(command: Callable[[], object]) -> None:
    try:
        try:
            command()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a failure can still be told in one line
    except OvsError as error:
        _end_if_stopped(error)
        _tell(f"error: {error}")
        sys.exit(error.exit_code)
    except Terminated:
        _tell("stopped by a signal")
        raise
    except KeyboardInterrupt:
        _tell("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        end_quietly()
    except Exception as error:
        _end_if_stopped(error)
        if not isinstance(error, OSError) or not _is_stdout_failure(error):
            raise
        _abandon(sys.stdout)
        _tell(f"error: cannot write to standard output ({error.strerror}); free some space")
        sys.exit(2)


def _end_if_stopped(error: Exception) -> None:
    """Exit as a signal's exception would, where a library written in C has made an error of its own of it."""
    if was_interrupted(error) or Terminated.latest == signal.SIGINT:
        _tell("interrupted")
        sys.exit(130)
    if Terminated.latest:
        _tell("stopped by a signal")
        sys.exit(128 + Terminated.latest)


def end_quietly() -> NoReturn:
    """Exit as a program that SIGPIPE ends: the reader of standard output has closed the pipe (`| head`)."""
    _abandon(sys.stdout)
    sys.exit(141)


def _tell(text: str) -> None:
    """Print a line on standard error; where that is not possible, the exit code has to do.

    Lines of several threads do not run into one another.
    """
    with _telling, suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _prepare_streams() -> None:
    """Names of any characters can be printed, and a stream that the shell closed is not given to a file instead."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # noqa: PERF203 - three times
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    for stream, errors in ((sys.stdout, codecs.replace_errors), (sys.stderr, codecs.backslashreplace_errors)):
        if isinstance(stream, io.TextIOWrapper):
            name = f"ovs_edge.{errors.__name__}"
            codecs.register_error(name, partial(_unprintable, errors))
            stream.reconfigure(errors=name)


def _unprintable(
    others: Callable[[UnicodeError], tuple[str | bytes, int]], error: UnicodeError
) -> tuple[str | bytes, int]:
    """Bytes that are not UTF-8 as `shown_text` has them; what the stream's character set lacks by `others`."""
    if not isinstance(error, UnicodeEncodeError):
        return others(error)
    letter = error.object[error.start]
    shown = shown_text(letter)
    if shown != letter:
        return shown, error.start + 1
    return others(UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason))


def _abandon(stream: TextIO) -> None:
    """Silence Python's own flush at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_stdout_failure(error: OSError) -> bool:
    """Whether an error without a file's name may be standard output's."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT)


def note(text: str) -> None:
    """Print one line for the user on standard error: something works otherwise than might be expected."""
    _tell(f"note: {shown_line(text)}")


@cache
def note_once(text: str) -> None:
    """`note`, unless it has been said before."""
    note(text)
