"""The errors a user can cause or meet. Every message says what was found, what was expected, what to do next.

OvsError                    one line on the terminal, exit code 2
├── UsageError              an option or a list of classes that makes no sense
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

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType

from .addresses import redact


class OvsError(Exception):
    """Base of every error that is the user's to mend; `str(error)` is a single line."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        # Drivers and libraries quote addresses, too: no password gets into a message.
        super().__init__(redact(" ".join(message.split())))


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
    """An exported artefact computes something else than its source, past the stated bar."""

    exit_code = 3


class Terminated(SystemExit):
    """SIGTERM or SIGHUP: everything unwinds as after Ctrl-C, so that nothing half written stays; exit code 128 + n."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise `MissingExtraError` naming the extra of `ovs-edge` that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"cannot import {module} ({error}); it comes with the extra '{extra}': pip install 'ovs-edge[{extra}]'"
        ) from error


def exit_on_error(command: Callable[[], object]) -> None:
    """Run a console command; an `OvsError` becomes one line on stderr and its exit code."""
    try:
        command()
    except OvsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Terminated:
        print("stopped by a signal", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe (`| head`) went away; silence Python's own flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def note(text: str) -> None:
    """Print one line for the user on standard error: something works otherwise than might be expected."""
    print(f"note: {redact(' '.join(text.split()))}", file=sys.stderr, flush=True)
