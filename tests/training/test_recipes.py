"""The script of the embedded model: its rounds, what it does after a stop, and that ovs-train knows its options."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ovs_edge.training import command
from ovs_edge.training.cli import app
from ovs_edge.training.command import resolve
from ovs_edge.training.request import TrainRequest

SCRIPT = Path(__file__).parents[2] / "training/recipes/default.sh"
# Notes its arguments, leaves what a run leaves, and is interrupted where it is told to be.
STAND_IN = """#!/bin/sh
echo "$*" >> "$CALLS"
for word in "$@"; do [ "$last" = -o ] && folder=$word; last=$word; done
mkdir -p "$folder" && touch "$folder/training.pt" "$folder/model.pt"
case $folder in *"$STOP") exit 143;; esac
"""


def _run(folder: Path, stop: str, *more: str) -> tuple[int, list[list[str]]]:
    """Exit code, and the calls of ovs-train."""
    program = folder / "bin" / "ovs-train"
    program.parent.mkdir(exist_ok=True)
    program.write_text(STAND_IN)
    program.chmod(0o755)
    calls = folder / "calls"
    calls.write_text("")
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "CALLS": str(calls), "STOP": stop}
    done = subprocess.run(
        [str(SCRIPT), str(folder / "data"), str(folder / "out"), *more],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, [line.split() for line in calls.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("voc", "msrc"):
        (tmp_path / "data" / name).mkdir(parents=True)
    return tmp_path


def test_rounds_build_on_each_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, calls = _run(folder, "nowhere", "--seed", "3")
    assert code == 0
    requests: list[TrainRequest] = []
    monkeypatch.setattr(command, "run", lambda request: requests.append(request) or 0)
    for call in calls:
        assert CliRunner().invoke(app, call).exit_code == 0, call
    out = folder / "out"
    assert [request.output for request in requests] == [out / f"round-{number}" for number in range(1, 6)]
    weights = ((0.28, 0.08), (0.24, 0.18), (0.20, 0.21), (0.21, 0.18), (0.21, 0.19))
    for request, (voc, msrc) in zip(requests, weights, strict=True):
        assert set(request.data) == {f"{folder}/data/voc:{voc:.2f}", f"{folder}/data/msrc:{msrc:.2f}"}
    starts = [None, *(out / f"round-{number}/model.pt" for number in range(1, 5))]
    assert [request.start for request in requests] == starts
    steps = [(2400, 4000), (1700, 3400), (1900, 1900), (2600, 3600), (2300, 2300)]
    assert [(request.until, request.steps) for request in requests] == steps
    assert {resolve(request)[0].preset for request in requests} == {"dense_mini"}
    assert {request.seed for request in requests} == {3}


def test_a_stopped_script_goes_on_where_it_was(folder: Path) -> None:
    code, calls = _run(folder, "round-2")
    assert code == 143
    assert len(calls) == 2
    code, calls = _run(folder, "nowhere")
    assert code == 0
    assert calls[0] == ["-o", f"{folder}/out/round-2", "--resume", "--until", "1700"]
    assert len(calls) == 4
    assert _run(folder, "nowhere") == (0, [])


def test_the_script_is_sound(tmp_path: Path) -> None:
    assert subprocess.run([str(SCRIPT)], capture_output=True, check=False, timeout=60).returncode == 2
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, str(SCRIPT)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
