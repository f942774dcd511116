"""`ovs-bench` on small real inputs: its counts are right, its files say where they come from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ovs_edge.benchmarks.cli import main


def _bench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """The exit code of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["ovs-bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.nightly
def test_depth_command_compares_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "depth.json"
    assert (
        _bench(monkeypatch, "depth", "mini", "--layers", "2,9", "--size", "96x64", "--runs", "2", "-o", str(output))
        == 0
    )
    rows = json.loads(output.read_text())["depth"]
    (row,) = rows  # nine layers it has not
    assert row["decoder_layers"] == 2
    assert row["gflops"] > 0
    assert row["onnx_ms"] > 0
    assert row["torch_ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["depth", "mini", "--layers", "deep"], "expected numbers"),
        (["depth", "nothing.pt"], "no preset 'nothing.pt'"),
    ],
)
def test_impossible_requests_are_one_line(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _bench(monkeypatch, *arguments) == 2
    error = capfd.readouterr().err
    assert len(error.strip().splitlines()) == 1, error
    assert words in error
