"""The script of the embedded model: its rounds, what it does after a stop, and that ovs-train knows its options."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.photos import write_index_masks
from typer.testing import CliRunner

from ovs_edge.segmenter.checkpoint import load_checkpoint
from ovs_edge.training import command
from ovs_edge.training.cli import app
from ovs_edge.training.command import resolve
from ovs_edge.training.request import TrainRequest

SCRIPT = Path(__file__).parents[2] / "training/recipes/default.sh"
WEIGHTS = Path(__file__).parents[2] / "models" / "mini.pt"
# Notes its arguments, leaves what a run leaves, and is interrupted where it is told to be.
STAND_IN = """#!/bin/sh
echo "$*" >> "$CALLS"
for word in "$@"; do [ "$last" = -o ] && folder=$word; last=$word; done
mkdir -p "$folder" && touch "$folder/training.pt" && cp "$WEIGHTS" "$folder/model.pt"
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
    path = f"{program.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "CALLS": str(calls), "STOP": stop, "WEIGHTS": str(WEIGHTS)}
    done = subprocess.run(
        [str(SCRIPT), str(folder / "data"), str(folder / "out"), *more],
        env=environment, capture_output=True, text=True, check=False, timeout=180,
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
    rounds = [out / f"round-{number}" for number in (1, 2, 3, 4, 5, 6)]
    assert [request.output for request in requests] == rounds
    weights = ((0.25, 0.16), (0.23, 0.22), (0.20, 0.27), (0.18, 0.28), (0.20, 0.34), (0.20, 0.30))
    for request, (voc, msrc) in zip(requests, weights, strict=True):
        assert set(request.data) == {f"{folder}/data/voc:{voc:.2f}", f"{folder}/data/msrc:{msrc:.2f}"}
    first, second = rounds[0] / "model.pt", rounds[1] / "model.pt"
    means = [out / f"mean-{number}.pt" for number in (3, 4, 5)]
    assert [request.start for request in requests] == [None, first, second, *means]
    assert [request.pseudo for request in requests] == [None, None, second, *means]
    assert [request.until for request in requests] == [2000, 6500, 4600, 5500, 3200, 4800]
    assert [request.steps for request in requests] == [3600, 6500, 4600, 5500, 3200, 4800]
    assert {resolve(request)[0].preset for request in requests} == {"dense_mini"}
    assert {request.seed for request in requests} == {3}
    assert {request.precision for request in requests} == {"bf16"}
    assert [(request.names, request.teacher) for request in requests[1:]] == [("draw", "imagenet")] * 5
    # The last round, here a copy of the embedded weights, is in two further means: a quarter of its weights are left.
    assert len(load_checkpoint(out / "model.pt")[1]["provenance"]["averaged_with"]) == 1 + 2


def test_a_stopped_script_goes_on_where_it_was(folder: Path) -> None:
    code, calls = _run(folder, "round-2")
    assert code == 143
    assert len(calls) == 2
    code, calls = _run(folder, "nowhere")
    assert code == 0
    assert calls[0] == ["-o", f"{folder}/out/round-2", "--resume", "--until", "6500"]
    assert len(calls) == 5
    result = folder / "out" / "model.pt"
    written = result.stat().st_mtime_ns
    assert _run(folder, "nowhere") == (0, [])
    assert result.stat().st_mtime_ns == written
    (folder / "out" / "mean-6.pt").touch()
    assert _run(folder, "nowhere") == (0, [])
    assert result.stat().st_mtime_ns > written
    (folder / "out" / "round-3" / "model.pt").unlink()
    assert _run(folder, "nowhere") == (2, [])


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_the_script_trains_a_model_that_can_be_exported(tmp_path: Path) -> None:
    """All rounds with ovs-train itself, two steps each, on a few coloured photos."""
    for name in ("voc", "msrc"):
        write_index_masks(tmp_path / "data" / name, photos=4)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    small = ["--steps", "2", "--batch", "2", "--crop", "64", "--view", "64", "--workers", "0", "--threads", "1"]
    for words in (
        [str(SCRIPT), "data", "out", *small],
        ["ovs-export", "out/model.pt", "-o", "mini.ovs", "--max-classes", "60"],
    ):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    assert len(list((tmp_path / "out").glob("round-*/finished"))) == 6
    manifest = json.loads((tmp_path / "mini.ovs" / "manifest.json").read_text())
    assert ["grass"] in [names[:1] for names in manifest["training_vocabulary"]]


def test_the_script_is_sound(tmp_path: Path) -> None:
    assert subprocess.run([str(SCRIPT)], capture_output=True, check=False, timeout=60).returncode == 2
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, str(SCRIPT)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
