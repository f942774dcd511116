"""The ablation on a few coloured shapes: what is kept apart, what is run, what is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.photos import write_index_masks

from ovs_edge.benchmarks.ablation import command
from ovs_edge.benchmarks.ablation.ablation import (
    RESULT,
    AblationOptions,
    RunResult,
    losses_of,
    prepare,
    run_ablation,
    summarise,
)
from ovs_edge.benchmarks.ablation.options import Arm
from ovs_edge.benchmarks.report.report import tables
from ovs_edge.bundle.errors import CheckpointError, UsageError
from ovs_edge.training.splits import Split, read_split

pytest.importorskip("matplotlib", reason="matplotlib is not installed, and draws the ablation's plot")


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A run takes one thread for itself."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def options(tmp_path: Path) -> AblationOptions:
    data = write_index_masks(tmp_path / "shapes", photos=12)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"unseen": ["sky"], "reserved": {"grass": "lawn"}}))
    return AblationOptions(((str(data), 1.0),), str(split), str(tmp_path / "runs"), steps=2, batch=2, crop=64, view=64)


def _run(arm: str, seed: int, seen: float, unseen: float) -> RunResult:
    read = (seen + 0.01, unseen + 0.01, 0.31, seen - 0.02, unseen)
    return RunResult(arm, seed, seen, unseen, 0.3, seen - 0.1, unseen, {"grass": seen}, {"grass": seen}, *read)


def test_photos_are_kept_apart(options: AblationOptions) -> None:
    material = prepare(options)
    (train, weight), test = material.train[0], material.test
    assert weight == 1.0
    taught, asked = {entry.image for entry in train.entries}, {entry.image for entry in test.entries}
    assert taught
    assert not taught & asked
    assert len(taught) + len(asked) == 12 + 2
    for index in range(len(train)):
        assert not (np.unique(cv2.imread(str(train.entries[index].mask), cv2.IMREAD_GRAYSCALE)) == 1).any()  # no sky
    assert [category.names[0] for category in train.classes] == ["grass", "brick wall"]
    assert "lawn" not in train.classes[0].all
    assert [category.names[0] for category in test.classes] == ["grass", "sky", "brick wall"]
    assert any((test.load(index).labels == 1).any() for index in range(len(test)))


def test_arms_differ_in_the_terms_they_add(options: AblationOptions) -> None:
    added = {arm: (losses.drawn, losses.region, losses.pairs) for arm in Arm if (losses := losses_of(arm, options))}
    assert added["plain"] == (0, 0, 0)
    assert added["diversification"] == (options.drawn, 0, 0)
    assert added["distillation"] == (0, options.region, options.pairs)
    assert added["both"] == (options.drawn, options.region, options.pairs)
    common = {
        dataclasses.replace(losses_of(arm, options), drawn=0, absent=False, region=0, pairs=0, centred=False, trusted=0)
        for arm in Arm
    }
    assert len(common) == 1


@pytest.mark.slow
def test_runs_are_evaluated_kept_and_not_run_again(options: AblationOptions) -> None:
    lines: list[str] = []
    first = run_ablation(options, (Arm.PLAIN, Arm.BOTH), [0], 1, lines.append)
    assert len(lines) == 3
    assert "photos to train on" in lines[0]
    assert [run["arm"] for run in first["runs"]] == ["plain", "both"]
    for run in first["runs"]:
        assert set(run["per_class"]) == {"grass", "sky", "brick wall"}
        assert all(
            0 <= run[figure] <= 1 for figure in ("seen", "unseen", "harmonic", "renamed_seen", "read_renamed_seen")
        )
    assert first["ablation"]["plain"]["seen"]["sd"] is None  # of one run there is no spread
    assert first["test_photos"] == {"shapes": 14 - first["train_photos"]["shapes"]}

    # Only what is missing is run: one result removed, the other kept as it stands.
    folder = Path(options.folder)
    kept = json.loads((folder / "plain_0" / RESULT).read_text()) | {"seen": 0.123}
    (folder / "plain_0" / RESULT).write_text(json.dumps(kept))
    (folder / "both_0" / RESULT).unlink()
    lines.clear()
    second = run_ablation(options, (Arm.PLAIN, Arm.BOTH), [0], 1, lines.append)
    assert len(lines) == 2
    assert lines[1].startswith("both 0")
    assert second["runs"][0]["seen"] == 0.123
    assert second["runs"][1] == first["runs"][1]  # the trained weights were there still

    with pytest.raises(UsageError, match=r"other options .steps"):
        run_ablation(dataclasses.replace(options, steps=3), (Arm.PLAIN,), [0], 1, lines.append)
    with pytest.raises(UsageError, match="no arm fancy"):
        command._arms("plain,fancy")
    split = Path(options.split)
    said = split.read_text()
    split.write_text(json.dumps({"unseen": ["grass"]}))  # under the same name
    with pytest.raises(UsageError, match=r"other options .content of the split"):
        run_ablation(options, (Arm.PLAIN,), [0], 1, lines.append)
    split.write_text(said)
    (folder / "plain_0" / RESULT).write_text("{}")
    with pytest.raises(CheckpointError, match="not the result of a run"):
        run_ablation(options, (Arm.PLAIN,), [0], 1, lines.append)


def test_summary_table_and_plot(options: AblationOptions, tmp_path: Path) -> None:
    from ovs_edge.benchmarks.ablation.plot import plot

    runs = [_run("plain", 0, 0.5, 0.1), _run("plain", 1, 0.7, 0.3), _run("both", 0, 0.6, 0.4)]
    result = summarise(runs, options, Split(("sky",), {"grass": "lawn"}))
    assert result["ablation"]["plain"]["seen"] == {"mean": 0.6, "sd": 0.1414}
    assert result["ablation"]["plain"]["drop"] == {"mean": 0.1, "sd": 0.0}
    assert result["recipe"]["data"] == {"shapes": 1.0}
    assert str(tmp_path) not in json.dumps(result)  # whose disk it was is no part of the measurement
    plot(result, tmp_path / "ablation.png")
    assert cv2.imread(str(tmp_path / "ablation.png")).shape[1] == 960
    assert [path.name for path in tmp_path.glob("*.png")] == ["ablation.png"]

    environment = {"packages": {"torch": "2"}, "date": "2026-01-01", "cores": 2, "processor": "p", "python": "3"}
    document = {"command": "ovs-bench ablation", "environment": environment, **result}
    document |= {"train_photos": {"shapes": 3}, "test_photos": {"shapes": 5}}
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "ablation.json").write_text(json.dumps(document))
    table = tables(tmp_path / "results")
    assert "| plain | as they are | 60.0 ± 14.1 | 20.0 ± 14.1 | 30.0 ± 0.0 | 50.0 ± 14.1 | 10.0 ± 0.0 |" in table
    assert (
        "| plain | moved towards trained names | 61.0 ± 14.1 | 21.0 ± 14.1 | 31.0 ± 0.0 | 58.0 ± 14.1 | 3.0 ± 0.0 |"
        in table
    )
    assert "| both | as they are | 60.0 | 40.0 |" in table
    assert "held-out categories: sky" in table


def test_shipped_splits_keep_tuning_and_figures_apart() -> None:
    folder = Path(__file__).parents[3] / "benchmarks" / "ablation"
    figures, tuning = (read_split(folder / f"{name}.json") for name in ("split", "tuning_split"))
    assert not set(figures.unseen) & set(tuning.unseen)
    assert figures.reserved == tuning.reserved
