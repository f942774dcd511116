"""Runs a build in a child process, which may run out of memory or be interrupted without harm to the parent."""

from __future__ import annotations

import multiprocessing
import re
import signal
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ...bundle.errors import MissingExtraError, OvsError, PlanError
from .builder import BuildRequest, BuiltEngine, build

Progress = Callable[[str, int, int], None]  # phase, done, of

# Resident memory of a build, measured with tensorrt_rtx, which has no tactics to time; other engines take more.
_BASE = 450 * 2**20
_PER_BYTE = 7  # of the ONNX file
_GRACE = 10.0  # seconds for an ended child to go


def needed_bytes(graph: Path) -> int:
    """Least memory that a build of this ONNX file takes."""
    return _BASE + _PER_BYTE * graph.stat().st_size


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Available memory; None where the system does not say."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def check_memory(graph: Path, available: int | None) -> None:
    """Raise `PlanError` where a build would certainly be killed."""
    needed = needed_bytes(graph)
    if available is not None and available < needed:
        raise PlanError(
            f"{available / 2**20:.0f} MiB of memory are free, building takes {needed / 2**20:.0f} MiB at least; "
            "close programs (a desktop takes a GiB), add swap, or build on another machine with the same GPU; "
            "--no-memory-check builds all the same"
        )


def build_in_child(request: BuildRequest, progress: Progress, work: Callable[..., BuiltEngine] = build) -> BuiltEngine:
    """`build` in a child process. Raises what it raises, and `PlanError` with advice if the child dies.

    Tests replace `build` by `work`, which must be a function of a module.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(work, request, sending), daemon=True)
    # Ctrl-C reaches the whole group. The child inherits that it is blocked; this process takes it when it is not, and
    # ends the child. multiprocessing's helper comes first, since starting it unblocks the signal.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child.start()
        sending.close()  # so that the end of the child is the end of the pipe
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        while True:
            wait([receiving, child.sentinel])
            if not receiving.poll():
                raise _died(child)
            try:
                kind, *content = receiving.recv()
            except EOFError:
                child.join(_GRACE)
                raise _died(child) from None
            if kind == "step":
                progress(*content)
            elif kind == "built":
                return _expect(content[0])
            else:
                raise content[0]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        receiving.close()
        if child.pid is not None:  # Ctrl-C may come before it has started
            child.terminate()
            child.join(_GRACE)
            if child.is_alive():
                child.kill()
                child.join()
            child.close()


def _expect(value: Any) -> BuiltEngine:
    assert isinstance(value, BuiltEngine)
    return value


def _child(work: Callable[..., BuiltEngine], request: BuildRequest, sending: Connection) -> None:
    def step(phase: str, done: int, of: int) -> bool:
        try:
            sending.send(("step", phase, done, of))
        except OSError:
            return False  # the parent has gone
        return True

    try:
        answer: tuple[Any, ...] = ("built", work(request, step))
    except (PlanError, MissingExtraError) as error:
        answer = ("error", error)
    except OSError as error:
        answer = ("error", PlanError(f"cannot write the plan ({error}); free some space, or choose another place"))
    except OvsError as error:
        answer = ("error", PlanError(str(error)))
    except Exception as error:  # noqa: BLE001 - on a graph that is none, onnx and TensorRT raise whatever they trip over
        reason = (str(error).splitlines() or [""])[0][:200]
        answer = ("error", PlanError(f"cannot build {request.graph.name} ({type(error).__name__}: {reason})"))
    with suppress(OSError):
        sending.send(answer)


def _died(child: Any) -> PlanError:
    child.join(_GRACE)
    code = child.exitcode
    if code is not None and -code == signal.SIGKILL:
        return PlanError(
            "the build was killed, most likely because memory ran out; close programs, add swap, lower --workspace or "
            "--level, give fewer --profiles, or build on another machine with the same GPU and copy the plan"
        )
    name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
    return PlanError(f"TensorRT crashed while building ({name}); try --level 2, --msda gather, or another version")
