"""`ovs-bench` on small real inputs: its counts are right, its files say where they come from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from ovs_edge.benchmarks.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True, timeout=300
    )


def test_depth_command_compares_engines(tmp_path: Path) -> None:
    output = tmp_path / "depth.json"
    done = _bench("depth", "mini", "--layers", "2,9", "--size", "96x64", "--runs", "2", "-o", str(output))
    assert done.returncode == 0, done.stderr
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
def test_impossible_requests_are_one_line(tiny_bundle: Path, arguments: list[str], words: str) -> None:
    done = _bench(*(part.format(bundle=tiny_bundle) for part in arguments))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert words in done.stderr
