"""`ovs-bench pipeline` and `ovs-bench soak`, in seconds: what they count, and what they write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ovs_edge.benchmarks.cli import main
from ovs_edge.benchmarks.live import soak
from ovs_edge.benchmarks.machine.environment import Environment
from ovs_edge.benchmarks.report.report import tables
from ovs_edge.benchmarks.speed import startup
from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import SourceError
from ovs_edge.bundle.processor import usable_cores
from ovs_edge.runtime.inference.smoothing import STRENGTH
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.vocabulary.text_encoder import TextEncoder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    writer = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(15):
        writer.write(np.full((48, 64, 3), (0, 0, 255), np.uint8))
    writer.release()
    return tmp_path / "clip.avi"


def _bench(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovs-bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    return int(exit.value.code or 0)


def test_pipeline(tiny_bundle: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = clip.parent / "results" / "pipeline.json"
    output.parent.mkdir()
    options = ("--model", tiny_bundle, "--source", clip, "--frames", 10, "--rounds", 2, "-o", output)
    assert _bench(monkeypatch, "pipeline", *options) == 0
    result = json.loads(output.read_text())["pipeline"]
    assert (result["frame_size"], result["rounds"], result["source"]) == ([48, 64], 2, "clip.avi")
    assert result["smoothing"] == STRENGTH  # what ovs-run does by default is part of what it costs
    assert result["network_fps"] > 0
    assert 0 < result["share"] < 4
    assert 0 < result["together_share"] < 2
    assert result["at_once"] == min(usable_cores(), 4)
    assert result["together_fps"] > 0
    assert "draw" in result["timings"]
    assert "whole pipeline" in tables(output.parent)


@pytest.mark.parametrize("pace", [(), ("--unpaced",)])
def test_soak(tiny_bundle: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, pace: tuple[str, ...]) -> None:
    monkeypatch.setattr(soak, "EVERY", 0.2)
    monkeypatch.setattr(soak, "CHANGE", 0.1)
    samples, encoded = [], []
    ensemble = TextEncoder._ensemble

    def counted(self: TextEncoder, names: list[str], progress: Any) -> Any:
        encoded.append(names)
        return ensemble(self, names, progress)

    monkeypatch.setattr(TextEncoder, "_ensemble", counted)
    result = soak.measure_soak(tiny_bundle, clip, 0.025, unpaced=bool(pace), threads=1, tell=samples.append)
    changes = [names for names in encoded if len(names) == 5]
    assert (
        len(changes) >= result.changes - 2
    )  # all, but for one that the end overtook: no cache answers for the encoder
    assert result.viewed is not None
    assert result.viewed > 5
    assert result.age_first_minute > 0
    assert result.age_last_minute > 0
    assert len(samples) == len(result.samples) >= 5
    assert result.changes >= 10
    assert result.frames > 15
    assert result.threads_gained <= 0
    assert result.descriptors_gained <= 0
    assert result.memory_growth < 0.2
    assert 0 < result.age_last_ms < 1000
    (clip.parent / "soak.json").write_text(
        json.dumps({"soak": asdict(result), "environment": asdict(Environment.here()), "command": "ovs-bench soak"})
    )
    assert f"| {result.frames} | {result.changes} |" in tables(clip.parent)


def test_the_command_starts_without_a_cache(tiny_bundle: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of ovs-run, from nothing to the first line of a photo's results, takes longer than --help."""
    photo = clip.with_name("photo.png")
    cv2.imwrite(str(photo), np.full((48, 64, 3), (0, 0, 255), np.uint8))
    calls = []
    popen = subprocess.Popen

    class Noted(popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], **options: Any) -> None:
            calls.append((command, os.listdir(options["env"]["XDG_CACHE_HOME"])))
            super().__init__(command, **options)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    took = startup.measure_command(Bundle.open(tiny_bundle), "fp32", "cpu", 1, photo)
    ((command, cached),) = calls
    assert 100 < took < 60_000
    assert cached == []
    assert startup.NEW_NAMES[0] in command
    with pytest.raises(SourceError, match="no such file"):
        startup.measure_command(Bundle.open(tiny_bundle), "fp32", "cpu", 1, clip.with_name("none.png"))
