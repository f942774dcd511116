"""A program started for each event."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable

from ....bundle.errors import UsageError
from .options import CommandOptions
from .receiver import Refused, Undelivered
from .spool import SpooledEvent


class CommandReceiver:
    """The event is on the program's standard input, as JSON. An exit code other than 0 is told; it is not run again."""

    def __init__(self, options: CommandOptions) -> None:
        """Raises `UsageError` for a program that is not there."""
        if shutil.which(options.run[0]) is None:
            name = options.run[0][:200]
            raise UsageError(f"there is no program {name!r} to start for events; give a path, or a name on the PATH")
        self._options = options
        self.key = "command-" + hashlib.sha256(json.dumps(options.run).encode()).hexdigest()[:16]
        self.name = f"command {options.run[0]}"

    def deliver(self, event: SpooledEvent, stopped: Callable[[], bool]) -> None:
        """Run the program and wait for its end."""
        try:
            done = subprocess.run(
                self._options.run,
                input=event.text.encode("utf-8", "replace"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self._options.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Refused(f"it was ended after {self._options.timeout:g} s") from error
        except (OSError, ValueError) as error:
            raise Undelivered(f"it cannot be started ({getattr(error, 'strerror', None) or error})") from error
        if done.returncode:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise Refused(f"exit code {done.returncode}{': ' + words[-1][:200] if words else ''}")

    def close(self) -> None:
        """Nothing is held open."""
