"""Conditions of a measurement: load by other processes, throttling, clocks, and warnings about them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from .system_state import SystemState, read_system_state

if TYPE_CHECKING:
    from typing_extensions import Self

_PERIOD = 1.0  # seconds between readings of clocks and temperature
_OTHERS = 0.05  # share of the cores; more than this used by other processes is warned about
_STEAL = 0.02  # the same for time taken by the hypervisor
_CLOCK = 0.9  # clocks below this share of the highest reading are warned about
_HALVES = 0.05  # relative difference of the medians of the two halves that is accepted
_SPREAD = 1.3  # p90 over p50


@dataclass(frozen=True)
class Conditions:
    """State of the machine during a measurement."""

    seconds: float
    others: float | None  # share of all cores' time that other processes used; None without /proc
    stolen: float | None  # share of all cores' time taken by the hypervisor
    load_average_before: float | None  # over the minute before
    hottest_c: float | None
    clocks_mhz: tuple[int, int] | None  # lowest and highest mean over the CPUs
    warnings: tuple[str, ...]  # empty on an idle machine


class ConditionMonitor:
    """Monitors the machine during a `with` block; `conditions` has the result afterwards."""

    def __init__(self, root: Path = Path("/")) -> None:
        """`root` replaces the root of the file system in tests."""
        self._root = root
        self._mine = {os.getpid()}
        self._over = threading.Event()
        self._states: list[SystemState] = []
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self.conditions: Conditions | None = None

    def own(self, pid: int) -> None:
        """Count another process and its children as measured processes."""
        self._mine.add(pid)

    def __enter__(self) -> Self:
        self._states.append(read_system_state(self._root))
        self._start = monotonic()
        self._before = self._times()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        after, seconds = self._times(), monotonic() - self._start
        self._states.append(read_system_state(self._root))
        others = stolen = None
        if self._before is not None and after is not None:
            total, busy, steal, mine = (new - old for new, old in zip(after, self._before, strict=True))
            if total > 0:
                others, stolen = max(0.0, (busy - mine) / total), steal / total
        means = [sum(state.clocks_mhz) / len(state.clocks_mhz) for state in self._states if state.clocks_mhz]
        self.conditions = Conditions(
            seconds=round(seconds, 1),
            others=None if others is None else round(others, 4),
            stolen=None if stolen is None else round(stolen, 4),
            load_average_before=self._states[0].load_average,
            hottest_c=max(
                (state.temperature_c for state in self._states if state.temperature_c is not None), default=None
            ),
            clocks_mhz=(round(min(means)), round(max(means))) if means else None,
            warnings=tuple(self._warnings(others, stolen, means)),
        )

    def _look(self) -> None:
        while not self._over.wait(_PERIOD):
            self._states.append(read_system_state(self._root))

    def _times(self) -> tuple[float, float, float, float] | None:
        """Ticks so far: of all cores, busy, stolen, and of the measured processes."""
        try:
            fields = (self._root / "proc/stat").read_text().splitlines()[0].split()[1:]
            user, nice, system, idle, wait, interrupt, soft, steal = map(float, fields[:8])
            busy = user + nice + system + interrupt + soft
            mine = self._ticks()
            return busy + idle + wait + steal, busy, steal, mine
        except (OSError, ValueError, IndexError):
            return None

    def _ticks(self) -> float:
        """Ticks of the measured processes and their children, including those that have ended."""
        ticks: dict[int, float] = {}
        parents: dict[int, int] = {}
        for path in (self._root / "proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # the process has ended
                # The process name, in parentheses, may contain spaces.
                words = path.read_text(errors="replace").rpartition(")")[2].split()
                pid = int(path.parent.name)
                parents[pid] = int(words[1])
                # User and kernel mode, own and of children that it has waited for.
                ticks[pid] = sum(map(float, words[11:15]))
        return sum(count for pid, count in ticks.items() if self._is_mine(pid, parents))

    def _is_mine(self, pid: int, parents: dict[int, int]) -> bool:
        seen: set[int] = set()  # a reused process id could close a cycle
        while pid in parents and pid not in seen:
            if pid in self._mine:
                return True
            seen.add(pid)
            pid = parents[pid]
        return False

    def _warnings(self, others: float | None, stolen: float | None, means: Sequence[float]) -> list[str]:
        found = []
        if others is not None and others > _OTHERS:
            found.append(f"busy machine: other processes used {others:.0%} of its cores")
        if stolen is not None and stolen > _STEAL:
            found.append(f"the hypervisor gave {stolen:.0%} of the cores' time to others")
        slowed = dict.fromkeys(reason for state in self._states for reason in state.slowed)
        found += [f"throttled: {reason}" for reason in slowed]
        first, last = self._states[0].throttle_counts, self._states[-1].throttle_counts
        found += [
            f"throttled: {what} (+{last[what] - count})" for what, count in first.items() if last.get(what, 0) > count
        ]
        if means and min(means[1:] or means) < _CLOCK * max(means):
            found.append(f"clocks moved between {min(means):.0f} and {max(means):.0f} MHz; fix them for a fair figure")
        return found


def sample_warnings(rounds: Sequence[Sequence[float]]) -> list[str]:
    """Warnings about one row's samples, given in time order."""
    values = np.concatenate([np.asarray(part, float) for part in rounds])
    found = []
    half = len(rounds) // 2
    if half:
        first, second = (float(np.median(np.concatenate(part))) for part in (rounds[:half], rounds[-half:]))
        if abs(second / first - 1) > _HALVES:
            found.append(f"its halves differ: {first:.1f} and {second:.1f} ms")
    p50, p90 = np.percentile(values, [50, 90])
    if p90 > _SPREAD * p50:
        found.append(f"wide spread: p90 is {p90 / p50:.1f} times the median")
    return found
