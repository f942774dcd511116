"""Comparison of two results of `ovs-bench speed`: regressions, told apart from noise of the machine.

The ratio of medians has a bootstrap interval (Efron and Tibshirani 1993). Blocks of neighbouring bursts are resampled,
not single frames (Künsch 1989): consecutive frames are correlated, and an interval that treats them as independent is
too narrow and reports differences where there are none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import OvsError, UsageError

CONFIDENCE = 0.99  # of the interval
LEAST_BURSTS = 10  # of a row in either result; an interval from fewer bursts is not reliable
_DRAWS = 2000
_BLOCKS = 5  # of a series: the longer the blocks, the less correlated they are
# So few blocks underestimate the variance. Widened by Student's t over the normal quantile, 3.36 / 2.58 at 2 (5 - 1)
# degrees of freedom, and by the square root of 5 / (5 - 1).
_WIDER = 1.456

Samples = Sequence[Sequence[float]]  # bursts of milliseconds, in time order


class RegressionError(OvsError):
    """A row became slower than the acceptance threshold allows."""

    exit_code = 3


@dataclass(frozen=True)
class Change:
    """One row before and now."""

    title: str
    what: str  # "total" or "infer"
    before_ms: float  # medians
    after_ms: float
    ratio: float  # now over before; above 1 is slower
    low: float  # ends of the interval
    high: float
    bursts: int  # of the result with fewer bursts

    @property
    def judged(self) -> bool:
        """Whether there are enough bursts to judge by the interval."""
        return self.bursts >= LEAST_BURSTS

    def verdict(self, margin: float) -> str:
        """Slower or faster if the whole interval lies beyond `margin`, such as 0.05, else no difference.

        Too few bursts if there are fewer than `LEAST_BURSTS`. The interval covers changes of the machine's speed during
        each run but not between the runs: the margin allows for those.
        """
        if not self.judged:
            return "too few bursts"
        if self.low > 1 + margin:
            return "slower"
        return "faster" if self.high < 1 / (1 + margin) else "no difference"


@dataclass(frozen=True)
class ResultComparison:
    """Two results, row by row."""

    changes: tuple[Change, ...]
    only_before: tuple[str, ...]  # rows of the earlier result only
    only_now: tuple[str, ...]  # rows of the later result only
    warnings: tuple[str, ...]  # differences of machine and software


def compare(before: dict[str, Any], after: dict[str, Any]) -> ResultComparison:
    """Rows that both documents have, by their titles and threads.

    Rows of one title, such as those of a/mini.ovs and b/mini.ovs, are matched by bundle if both documents have the
    same bundles, else by their order. Raises `UsageError` if they cannot be matched, or if there is no common row.
    """
    old, new = (_by_key(document["speed"]["rows"]) for document in (before, after))
    shared = [key for key in new if key in old]
    if not shared:
        raise UsageError(
            f"the two results have no row in common: {', '.join(key[0] for key in old)} before, "
            f"{', '.join(key[0] for key in new)} now; measure the same bundles, precisions and classes"
        )
    changes = []
    for key in shared:
        for title, first, second in _pairs(key[0], old[key], new[key]):
            changes += [
                change(title, what, first["rounds"][what], second["rounds"][what])
                for what in ("total", "infer")
                if what in first["rounds"] and what in second["rounds"]
            ]
    return ResultComparison(
        tuple(changes),
        tuple(_named(key) for key in old if key not in new for _ in old[key]),
        tuple(_named(key) for key in new if key not in old for _ in new[key]),
        tuple(_differences(before, after)),
    )


def _by_key(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Rows by title and threads; bundles of the same name share both."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["title"], row["subject"]["threads"]), []).append(row)
    return found


def _named(key: tuple[str, int]) -> str:
    return f"{key[0]}, {key[1]} threads" if key[1] else key[0]


def _pairs(
    title: str, old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """A title for each pair of rows, and the rows."""
    if len(old) == len(new) == 1:
        return [(title, old[0], new[0])]
    if len(old) != len(new):
        raise UsageError(
            f"{len(old)} rows are called {title!r} before, {len(new)} now, and they cannot be matched; give the "
            "bundles different names, or measure the same ones in the same order"
        )
    if sorted(str(row["bundle_digest"]) for row in old) == sorted(str(row["bundle_digest"]) for row in new):
        left = list(old)
        old = [left.pop([row["bundle_digest"] for row in left].index(row["bundle_digest"])) for row in new]
    pairs = enumerate(zip(old, new, strict=True), 1)
    return [(f"{title} (no. {number})", first, second) for number, (first, second) in pairs]


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Differences of machine and software that affect latency."""
    machines = [document.get("environment") for document in (before, after)]
    if not all(machines):
        return ["one of the results does not say on which machine it was measured"]
    old, new = (_deciding(machine) for machine in machines if machine)
    return [
        f"another {what}: {old[what] or 'none'} before, {new[what] or 'none'} now"
        for what in old
        if old[what] != new[what]
    ]


def _deciding(machine: dict[str, Any]) -> dict[str, Any]:
    packages, board = machine["packages"], machine.get("board") or {}
    versions = {name: packages.get(name) for name in ("onnxruntime", "onnxruntime-gpu")}
    power_mode = {"power mode": board.get("power_mode")}
    return {"processor": machine["processor"], "number of cores": machine["cores"], **versions, **power_mode}


def change(title: str, what: str, before: Samples, after: Samples, *, paired: bool = False) -> Change:
    """The ratio of medians with its interval.

    `paired` samples come from interleaved runs: the same rounds are resampled for both, so that a temporary slowdown of
    the machine affects both alike.
    """
    # Fixed seeds: the comparison of two files is reproducible.
    old, new = (
        _resampled_medians(samples, np.random.default_rng(seed))
        for samples, seed in ((before, 0), (after, 0 if paired else 1))
    )
    tail = 100 * (1 - CONFIDENCE) / 2
    ends = np.percentile(new / old, [tail, 100 - tail])
    first, second = (float(np.median(np.concatenate(samples))) for samples in (before, after))
    ratio = second / first
    low, high = (ratio * (float(end) / ratio) ** _WIDER for end in ends)
    return Change(title, what, first, second, ratio, low, high, min(len(before), len(after)))


def relative(rows: Sequence[dict[str, Any]]) -> list[Change]:
    """Every other row of a result relative to its first row."""
    first = rows[0]["rounds"]["total"]
    return [change(row["title"], "total", first, row["rounds"]["total"], paired=True) for row in rows[1:]]


def _resampled_medians(samples: Samples, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Medians of `_DRAWS` series, each resampled from overlapping blocks of `samples`."""
    shortest = min(len(burst) for burst in samples)
    bursts = np.array([list(burst)[:shortest] for burst in samples], float)
    length = max(1, len(bursts) // _BLOCKS)  # single bursts below `LEAST_BURSTS`
    starts = rng.integers(0, len(bursts) - length + 1, (_DRAWS, -(-len(bursts) // length)))
    index = (starts[..., None] + np.arange(length)).reshape(_DRAWS, -1)[:, : len(bursts)]
    medians: npt.NDArray[np.float64] = np.median(bursts[index].reshape(_DRAWS, -1), axis=1)
    return medians


def load_result(path: Path) -> dict[str, Any]:
    """A document of `ovs-bench speed`. Raises `UsageError` for anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        document["speed"]["rows"][0]["rounds"]["total"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise UsageError(f"{path} is not a result of ovs-bench speed ({error!r}); make one with -o") from error
    assert isinstance(document, dict)
    return document


def check(changes: Sequence[Change], allowed: float, warnings: Sequence[str] = ()) -> None:
    """Raise `RegressionError`, naming the worst row, if a row became slower by more than `allowed`.

    Raises `UsageError` if no row has enough bursts.
    """
    if not any(entry.judged for entry in changes):
        raise UsageError(
            f"none of the {len(changes)} figures could be judged: one of the results has {changes[0].bursts} "
            f"bursts of a row, expected {LEAST_BURSTS} or more; measure with more --runs"
        )
    slower = [entry for entry in changes if entry.verdict(allowed) == "slower"]
    if slower:
        worst = max(slower, key=lambda entry: entry.ratio)
        reason = f"; but {warnings[0]}" if warnings else ""
        raise RegressionError(
            f"{len(slower)} of {len(changes)} figures are slower by more than {allowed:.0%}, most of all "
            f"{worst.title} ({worst.what}): {worst.before_ms:.1f} ms before, {worst.after_ms:.1f} ms now{reason}"
        )
