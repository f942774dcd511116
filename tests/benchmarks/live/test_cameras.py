"""`ovs-bench cameras` and `ovs-bench soak --cameras`, in seconds: what they count, and what they write."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support.cameras import clip

from ovs_edge.benchmarks.cli import main
from ovs_edge.benchmarks.live import cameras, cameras_soak
from ovs_edge.benchmarks.report.report import tables


def _bench(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovs-bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    return int(exit.value.code or 0)


@pytest.mark.slow
def test_cameras(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "_SETTLE", 0.5)
    output = tmp_path / "results" / "cameras.json"
    options = ("--model", tiny_bundle, "--cameras", 2, "--fps", 20, "--seconds", 1, "--rounds", 1, "-o", output)
    assert _bench(monkeypatch, "cameras", clip(tmp_path), *options) == 0
    result = json.loads(output.read_text())["cameras"]
    assert (result["cameras"], result["camera_fps"], result["source"]) == (2, 20, "halves.avi")
    assert [one["sharing"] for one in result["sharings"]] == ["side-by-side", "one-at-a-time"]
    assert all(one["fps"] > 0 and one["age_ms"] > 0 and 0 < one["slowest"] <= 1 for one in result["sharings"])
    faults = {(fault["fault"], fault["limited"]) for fault in result["faults"]}
    assert faults == {(fault, limited) for fault in ("stall", "flood", "die") for limited in (False, True)}
    assert all(fault["others"] > 0 for fault in result["faults"])
    assert "2 synthetic cameras of 20 FPS" in tables(output.parent)


def test_soak(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("CHANGE", 1.0), ("EVERY", 0.4), ("_FAULT", 2.0), ("SETTLED", 0.0)):
        monkeypatch.setattr(cameras_soak, name, seconds)
    output = tmp_path / "results" / "soak.json"
    options = ("--model", tiny_bundle, "--cameras", 2, "--minutes", 0.6, "-o", output)
    monkeypatch.setattr(cameras_soak, "_MINUTE", 12.0)
    assert _bench(monkeypatch, "soak", clip(tmp_path), *options) == 0
    result = json.loads(output.read_text())["cameras_soak"]
    assert result["frames"] > 0
    assert result["changes"] >= 4
    assert result["faults"] >= 1
    assert len(result["samples"]) >= 8
    assert "2 cameras, classes, zones and rules" in tables(output.parent)
