"""Options of `ovs-train`: refused where they make no sense, remembered where a run is continued."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.photos import write_index_masks
from typer.testing import CliRunner

from ovs_edge.bundle.errors import CheckpointError
from ovs_edge.training.choices import NamesMode
from ovs_edge.training.cli import app
from ovs_edge.training.command import remembered, resolve, to_json
from ovs_edge.training.options import RUN_FILE
from ovs_edge.training.request import TrainRequest


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_index_masks(tmp_path / "data" / "shapes", photos=1)


def test_a_request_is_remembered_as_it_was(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was given, wherever the run is continued from; what is given anew counts."""
    monkeypatch.chdir(shapes.parent)
    began = TrainRequest(
        data=("shapes:2",), output=tmp_path, recipe="guided", lr=1, names=NamesMode.RANDOM, absent=False, seed=0,
        split=Path("split.json"), photos=("shapes",), pseudo=Path("model.pt"),
    )  # fmt: skip
    (tmp_path / RUN_FILE).write_text(to_json(began))
    monkeypatch.chdir(tmp_path)
    again = remembered(TrainRequest(output=tmp_path, resume=True, lr=2.0))
    where = {"split": shapes.parent / "split.json", "pseudo": shapes.parent / "model.pt", "photos": (f"{shapes}:1",)}
    assert again == replace(began, data=(f"{shapes}:2",), lr=2.0, resume=True, **where)
    assert resolve(again)[0].train.names == NamesMode.RANDOM
    assert remembered(TrainRequest(output=tmp_path / "elsewhere")) == TrainRequest(output=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"unknown": 1}', '{"steps": "many"}', '{"names": "loud"}', '{"crop": 33}']
)
def test_a_damaged_file_of_options_is_one_error(tmp_path: Path, content: str) -> None:
    (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(CheckpointError, match="cannot read the options of the run"):
        remembered(TrainRequest(output=tmp_path, resume=True))


def test_options_with_choices_are_refused_in_one_line(tmp_path: Path) -> None:
    for option, value, words in (
        ("--precision", "fp8", "fp32"),
        ("--device", "tpu", "cuda"),
        ("--names", "loud", "draw"),
    ):
        result = CliRunner().invoke(app, ["--data", "x", "-o", str(tmp_path / "run"), option, value])
        assert result.exit_code == 2
        assert words in result.output + result.stderr
