"""Comparison of two results of `ovs-bench speed`: rows matched, intervals, A/A tests, regressions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ovs_edge.benchmarks.speed import compare
from ovs_edge.benchmarks.speed.compare import change
from ovs_edge.bundle.errors import UsageError


def _document(*rows: tuple[str, str, float], bursts: int = 12, **machine: Any) -> dict[str, Any]:
    """A result with a row for each title, bundle digest and median."""
    environment = {"processor": "a", "cores": 4, "packages": {"onnxruntime": "1.0"}, "board": {}, **machine}
    entries = [
        {
            "title": title,
            "subject": {"threads": 2},
            "bundle_digest": digest,
            "rounds": {"total": _series(index, median, 0.0, bursts)},
        }
        for index, (title, digest, median) in enumerate(rows)
    ]
    return {"environment": environment, "speed": {"rows": entries}}


def test_rows_of_one_title_are_compared_each_with_its_own() -> None:
    """a/mini.ovs and b/mini.ovs: the first became ten times as slow."""
    before = _document(("mini", "a", 50), ("mini", "b", 50), ("old", "o", 1))
    now = _document(("mini", "a2", 500), ("mini", "b2", 50), ("new", "n", 1))
    found = compare.compare(before, now)
    assert [(entry.title, entry.verdict(0.05)) for entry in found.changes] == [
        ("mini (no. 1)", "slower"),
        ("mini (no. 2)", "no difference"),
    ]
    assert (found.only_before, found.only_now) == (("old, 2 threads",), ("new, 2 threads",))
    with pytest.raises(compare.RegressionError, match=r"1 of 2 figures .* mini \(no. 1\)"):
        compare.check(found.changes, 0.05)
    # The same bundles in another order: by their digests, not by their places.
    turned = _document(("mini", "b", 50), ("mini", "a", 500))
    assert [entry.verdict(0.05) for entry in compare.compare(before, turned).changes] == ["no difference", "slower"]
    with pytest.raises(UsageError, match="2 rows are called 'mini' before, 1 now"):
        compare.compare(before, _document(("mini", "a", 50)))


def test_another_machine_is_told() -> None:
    before, now = _document(("mini", "a", 50)), _document(("mini", "a", 50), board={"power_mode": None})
    assert compare.compare(before, now).warnings == ()
    now = _document(
        ("mini", "a", 50), processor="b", cores=8, packages={"onnxruntime": "1.1"}, board={"power_mode": "15W"}
    )
    assert compare.compare(before, now).warnings == (
        "another processor: a before, b now",
        "another number of cores: 4 before, 8 now",
        "another onnxruntime: 1.0 before, 1.1 now",
        "another power mode: none before, 15W now",
    )
    del before["environment"]
    assert compare.compare(before, now).warnings == (
        "one of the results does not say on which machine it was measured",
    )


def test_few_bursts_are_no_verdict() -> None:
    pair = change("a", "total", _series(1, 50, 0.0, 9), _series(2, 500, 0.0))
    assert pair.verdict(0.05) == "too few bursts"
    assert change("a", "total", _series(1, 50, 0.0, 10), _series(2, 500, 0.0)).verdict(0.05) == "slower"
    with pytest.raises(UsageError, match=r"none of the 1 figures could be judged.* 9 bursts"):
        compare.check([pair], 0.05)


def _series(seed: int, median: float, memory: float, bursts: int = 50) -> list[list[float]]:
    """Bursts of four frames on a machine whose speed wanders: each burst's remembers `memory` of the one before."""
    rng = np.random.default_rng(seed)
    wander, series = 0.0, []
    for _ in range(bursts):
        wander = memory * wander + rng.normal(0, 0.03)
        series.append([float(median * np.exp(wander + abs(rng.normal(0, 0.05)))) for _ in range(4)])
    return series


@pytest.mark.parametrize(("memory", "margin"), [(0.0, 0.0), (0.6, 0.0), (0.9, 0.05)])
def test_a_against_a_is_no_difference_in_19_of_20(
    memory: float, margin: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_DRAWS", 300)
    pairs = [change("a", "total", _series(i, 50, memory), _series(1000 + i, 50, memory)) for i in range(40)]
    assert sum(pair.verdict(margin) != "no difference" for pair in pairs) <= 2


def test_a_real_difference_is_found() -> None:
    pair = change("a", "total", _series(1, 50, 0.0), _series(2, 60, 0.0))
    assert pair.low < 1.2 < pair.high
    assert pair.verdict(0.05) == "slower"
    assert pair.verdict(0.25) == "no difference"
    assert change("a", "total", _series(2, 60, 0.0), _series(1, 50, 0.0)).verdict(0.05) == "faster"


def test_interleaved_runs_cancel_a_common_slowdown() -> None:
    first = _series(1, 50, 0.95)
    second = [[1.1 * ms for ms in burst] for burst in first]
    apart, paired = (change("a", "total", first, second, paired=paired) for paired in (False, True))
    assert paired.low == pytest.approx(1.1)
    assert paired.high == pytest.approx(1.1)
    assert apart.high - apart.low > 0.05
