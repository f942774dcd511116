"""`ovs-bench profile`: every millisecond under the name of the torch module that it was spent for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ovs_edge.benchmarks.cli import main
from ovs_edge.benchmarks.report.report import tables
from ovs_edge.benchmarks.speed.profile import grouped, measure_profile
from ovs_edge.bundle.bundle import Bundle
from ovs_edge.models import default_bundle


def test_kernels_carry_the_names_of_torch_modules() -> None:
    profile = measure_profile(Bundle.open(default_bundle()), "fp32", classes=3, threads=1, runs=2)
    modules = {layer.module: layer for layer in profile.layers}
    # Fused into a blocked layout, renamed, and with its activation inside: still the module's.
    assert "Conv" in modules["model.backbone.stem.0"].operators
    assert "Conv" in modules["model.pixel_decoder.output3.conv"].operators
    assert "Conv" in modules["model.pixel_decoder.embed"].operators
    shares = [layer.share for layer in profile.layers]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1, abs=0.01)
    assert 0 < profile.kernels_ms <= profile.network_ms
    groups = dict(grouped(profile, 2))
    assert sum(groups.values()) == pytest.approx(profile.kernels_ms, rel=0.01)
    assert groups["model.backbone"] > 0.1 * profile.kernels_ms
    # What has no torch module is the graph's own: pixels in, class maps and argmax out.
    assert "ArgMax" in modules["(around the model)"].operators
    assert "Conv" not in modules["(around the model)"].operators


def test_command(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "profile.json"
    arguments = ("profile", tiny_bundle, "--classes", 4, "--runs", 2, "--threads", 1, "-o", output)
    monkeypatch.setattr(sys, "argv", ["ovs-bench", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit:
        main()
    assert not exit.value.code
    document = json.loads(output.read_text())
    assert document["profile"]["classes"] == 4
    assert document["bundle"] == "tiny"
    assert "(around the model)" in capsys.readouterr().out
    assert "| (around the model) |" in tables(output.parent)
