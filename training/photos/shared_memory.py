"""Whether processes that read photos can hand batches over: torch does so through shared memory (/dev/shm).

Where it is too small, as in a container with Docker's 64 MB, a process dies of a bus error or waits for ever; where it
cannot be written, torch raises. Photos are then read by the main process.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ...bundle.errors import note

FOLDER = Path("/dev/shm")
_AHEAD = 2  # batches that torch has each process prepare
_PIXEL = 3 * 4 + 8  # bytes: colours in FP32, a class index in 64 bits


def usable_workers(workers: int, crops: int, side: int, folder: Path = FOLDER) -> int:
    """`workers`, or 0 after a note where shared memory does not hold their batches of `crops` crops of `side`
    pixels."""
    if workers == 0 or not folder.is_dir():  # other systems have another way
        return workers
    needed = workers * (_AHEAD + 1) * crops * side * side * _PIXEL
    problem = _problem(folder, needed)
    if problem is None:
        return workers
    note(
        f"{folder} {problem}; photos are read by the main process instead of {workers} others. In a container, start "
        "it with --shm-size 1g (Docker), or use --workers 0"
    )
    return 0


def _problem(folder: Path, needed: int) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
        state = os.statvfs(folder)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    free = state.f_bavail * state.f_frsize
    if free < needed:
        return f"has {free / 2**20:.0f} MiB free, {needed / 2**20:.0f} MiB are needed"
    return None
