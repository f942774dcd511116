"""Two results of `ovs-bench speed` side by side: is what was measured slower than before, or was it the machine?

The ratio of medians gets an interval by bootstrap (Efron and Tibshirani 1993). What is drawn are blocks of neighbouring
bursts, not single frames (Künsch 1989): frames that follow each other resemble each other, and an interval that takes
them for independent comes out too narrow and finds differences where there are none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovs_edge.bundle.errors import OvsError, UsageError

CONFIDENCE = 0.99  # of the interval
_DRAWS = 2000
_BLOCKS = 5  # that the samples are cut into: the longer they are, the less one depends on the next
# So few blocks vary less among themselves than what they are drawn from. Wider by Student's t over the normal quantile,
# 3.36 / 2.58 at 2 (5 - 1) degrees of freedom, and by the square root of 5 / (5 - 1).
_WIDER = 1.456

Samples = Sequence[Sequence[float]]  # bursts in the order they were taken, of milliseconds


class RegressionError(OvsError):
    """Something became slower than was allowed."""

    exit_code = 3


@dataclass(frozen=True)
class Change:
    """One row, then and now."""

    title: str
    what: str  # "total" or "infer"
    before_ms: float  # medians
    after_ms: float
    ratio: float  # now over then; above 1 is slower
    low: float  # ends of the interval
    high: float

    def verdict(self, margin: float) -> str:
        """Slower or faster where the whole interval lies beyond a `margin` such as 0.05, else no difference.

        The interval knows how the machine wandered during the two runs, not between them: hence the margin.
        """
        if self.low > 1 + margin:
            return "slower"
        return "faster" if self.high < 1 / (1 + margin) else "no difference"


def compare(before: dict[str, Any], after: dict[str, Any]) -> list[Change]:
    """Rows that both documents have, by their titles and threads. Raises `UsageError` when there is none."""
    old, new = ({_key(row): row for row in document["speed"]["rows"]} for document in (before, after))
    shared = [key for key in new if key in old]
    if not shared:
        raise UsageError(
            f"the two results have no row in common: {', '.join(key[0] for key in old)} before, "
            f"{', '.join(key[0] for key in new)} now; measure the same bundles, precisions and classes"
        )
    changes = []
    for key in shared:
        for what in ("total", "infer"):
            if what in old[key]["rounds"] and what in new[key]["rounds"]:
                changes.append(change(key[0], what, old[key]["rounds"][what], new[key]["rounds"][what]))
    return changes


def change(title: str, what: str, before: Samples, after: Samples, paired: bool = False) -> Change:
    """The ratio of medians with its interval.

    `paired` samples were taken in turns, in one run: the same rounds are drawn of both, so that a machine that slows
    down for a while slows both alike, and only their difference counts.
    """
    # Fixed seeds: the same two files give the same answer.
    old, new = (
        _resampled_medians(samples, np.random.default_rng(seed))
        for samples, seed in ((before, 0), (after, 0 if paired else 1))
    )
    tail = 100 * (1 - CONFIDENCE) / 2
    ends = np.percentile(new / old, [tail, 100 - tail])
    first, second = (float(np.median(np.concatenate(samples))) for samples in (before, after))
    ratio = second / first
    low, high = (ratio * (float(end) / ratio) ** _WIDER for end in ends)
    return Change(title, what, first, second, ratio, low, high)


def relative(rows: Sequence[dict[str, Any]]) -> list[Change]:
    """Every further row of one result against its first."""
    first = rows[0]["rounds"]["total"]
    return [change(row["title"], "total", first, row["rounds"]["total"], paired=True) for row in rows[1:]]


def _resampled_medians(samples: Samples, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Medians of `_DRAWS` series put together from overlapping blocks of `samples`."""
    shortest = min(len(burst) for burst in samples)
    bursts = np.array([list(burst)[:shortest] for burst in samples], float)
    length = max(1, len(bursts) // _BLOCKS)
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
        raise UsageError(f"{path} is no result of ovs-bench speed ({error!r}); make one with -o") from error
    assert isinstance(document, dict)
    return document


def check(changes: Sequence[Change], allowed: float, warnings: Sequence[str] = ()) -> None:
    """Raise `RegressionError`, naming the worst, when a row became slower than by `allowed`."""
    slower = [entry for entry in changes if entry.verdict(allowed) == "slower"]
    if slower:
        worst = max(slower, key=lambda entry: entry.ratio)
        reason = f"; but {warnings[0]}" if warnings else ""
        raise RegressionError(
            f"{len(slower)} of {len(changes)} figures are slower by more than {allowed:.0%}, most of all "
            f"{worst.title} ({worst.what}): {worst.before_ms:.1f} ms before, {worst.after_ms:.1f} ms now{reason}"
        )


def _key(row: dict[str, Any]) -> tuple[str, int]:
    return row["title"], row["subject"]["threads"]
