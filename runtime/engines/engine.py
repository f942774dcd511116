"""The declaration of an engine: a value of `--provider`, how it opens a bundle, whether it can be used here.

    ENGINE = Engine("mine", open=lambda bundle, options: MySession(bundle.graph(options.precision)))

and one line in registry.py name it. See docs/extending.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...bundle.bundle import Bundle
    from .session import Session

PATIENCE = 20.0  # seconds for a child process; the first import after an installation is slow


@dataclass(frozen=True)
class EngineOptions:
    """Which of a bundle's graphs to run, on what, and how."""

    precision: str = "fp32"  # one of the bundle's, or "auto": the fastest that may be used here
    threads: int = 0  # of the CPU; 0: one per core
    provider: str = "auto"  # an engine's name, or "auto"
    plan: Path | None = None  # folder of a TensorRT plan to use
    side_by_side: bool = False  # let a CPU work on several frames at once, rather than on one with all its cores

    def __post_init__(self) -> None:
        for name, kind in (("precision", str), ("threads", int), ("provider", str)):
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} is a {type(getattr(self, name)).__name__}, expected {kind.__name__}")


@dataclass(frozen=True)
class Finding:
    """One line of `ovs-doctor`."""

    topic: str
    state: str  # "ok", "note" (works, with a limit worth knowing) or "missing"
    text: str  # what was found
    remedy: str | None = None  # what to do, where there is something


def examined(topic: str, probe: Callable[[], Iterable[Finding]], *, failed: str = "note") -> Iterator[Finding]:
    """The findings of `probe`; if it fails, that is one more, in the state `failed`, and other probes go on."""
    try:
        yield from probe()
    except Exception as error:  # noqa: BLE001 - whatever a probe meets, the report goes on
        yield unexamined(topic, error, failed)


def unexamined(topic: str, error: Exception, state: str) -> Finding:
    """What is found where a probe fails."""
    return Finding(topic, state, f"could not be examined ({type(error).__name__}: {error})")


@dataclass(frozen=True)
class Obstacle:
    """Why an engine cannot be used on this machine."""

    text: str
    unexpected: bool = False  # it is installed, so the user should hear why another engine is used


def _nothing() -> Iterator[Finding]:
    return iter(())


def fastest_of(*precisions: str) -> Callable[[Bundle, EngineOptions], str]:
    """For `Engine.fastest`: the first of `precisions`, fastest first, that passed its comparison and fits here."""

    def fastest(bundle: Bundle, options: EngineOptions) -> str:
        return next((precision for precision in precisions if bundle.may_run(precision)), "fp32")

    return fastest


@dataclass(frozen=True)
class Engine:
    """One value of `--provider`."""

    name: str
    open: Callable[[Bundle, EngineOptions], Session]
    # Why `--provider auto` skips this engine, given the options; None: it is used.
    obstacle: Callable[[EngineOptions], Obstacle | None] = lambda options: Obstacle("only used when it is named")
    examine: Callable[[], Iterator[Finding]] = _nothing  # for ovs-doctor
    fastest: Callable[[Bundle, EngineOptions], str] = lambda bundle, options: "fp32"  # --precision auto


def import_in_child(module: str, code: str = "") -> tuple[bool, str]:
    """For `Engine.examine`: import `module`, which may crash or hang, in a child process and run `code`.

    Returns whether that worked, and its output or the reason.
    """
    try:
        ran = subprocess.run(
            [sys.executable, "-c", f"import {module}\n{code}"],
            capture_output=True, text=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"importing {module} takes longer than {PATIENCE:g} s"
    except OSError as error:
        return False, str(error)
    if ran.returncode == 0:
        return True, ran.stdout.strip()
    if ran.returncode < 0:
        return False, f"importing {module} crashes (signal {-ran.returncode})"
    last = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
    return False, last[0][:300]
