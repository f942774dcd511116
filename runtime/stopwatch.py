"""Times of several things side by side, on machines whose load varies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

_UNTIMED = 4  # runs at the head of a burst
_BURST = 8  # runs of it that count


def burst_times(
    actions: Sequence[Callable[[], object]],
    rounds: int,
    untimed: int = _UNTIMED,
    burst: int = _BURST,
    enough: Callable[[int], bool] = lambda done: False,
) -> npt.NDArray[np.float64]:
    """Milliseconds (rounds, actions): the median of a burst of each action, the actions in turns.

    In turns, since a machine's speed drifts: compare within a row. In bursts, since an engine's threads spin on after
    a run, and take the cores from whichever comes next: the first runs of a burst are not counted. `enough` is asked
    after each round and may end the measurement early.
    """
    rows: list[list[float]] = []
    while len(rows) < rounds:
        rows.append([_median(action, untimed, burst) for action in actions])
        if enough(len(rows)):
            break
    return np.array(rows)


def _median(action: Callable[[], object], untimed: int, burst: int) -> float:
    times = []
    for _ in range(untimed + burst):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return float(np.median(times[untimed:])) * 1e3
