"""`ovs-bench` on small real inputs: its counts are right, its files say where they come from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovs_edge.benchmarks.accuracy import measure_accuracy
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.training.datasets import open_dataset


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from ovs_edge.benchmarks.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos that are red on the left and green on the right; a quarter of the truth is deliberately wrong."""
    folder = tmp_path_factory.mktemp("data") / "halves"
    (folder / "images/val").mkdir(parents=True)
    (folder / "masks/val").mkdir(parents=True)
    (folder / "classes.json").write_text(json.dumps(["red", "green"]))
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :48, 2] = image[:, 48:, 1] = 255
    truth = np.zeros((64, 96), np.uint8)
    truth[:, 48:] = 1
    truth[32:, :48] = 1
    cv2.imwrite(str(folder / "images/val/a.png"), image)
    cv2.imwrite(str(folder / "masks/val/a.png"), truth)
    return folder


def test_accuracy_counts_pixels(halves: Path, tiny_bundle: Path) -> None:
    with Segmenter.load(tiny_bundle, background="none", threshold=0.0) as segmenter:
        result = measure_accuracy(segmenter, open_dataset(halves, "val"))
    # Red: 1/4 of the picture right, 1/2 claimed. Green: 1/2 right, 3/4 true.
    assert result.per_class == {"red": pytest.approx(0.5, abs=0.03), "green": pytest.approx(2 / 3, abs=0.03)}
    assert result.miou == pytest.approx((0.5 + 2 / 3) / 2, abs=0.03)
    assert result.pixel_accuracy == pytest.approx(0.75, abs=0.03)


def test_accuracy_command_writes_what_it_prints(halves: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output, split = tmp_path / "accuracy.json", tmp_path / "split.json"
    split.write_text(json.dumps({"unseen": ["green"]}))
    done = _bench(
        "accuracy", "--model", str(tiny_bundle), "--data", str(halves), "--split", str(split), "-o", str(output)
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(output.read_text())
    assert f"mIoU {document['accuracy'][0]['miou']:.3f}" in done.stdout
    apart, red, green = document["accuracy"][0]["split"], 0.5, 2 / 3
    assert (apart["seen"], apart["unseen"]) == (pytest.approx(red, abs=0.03), pytest.approx(green, abs=0.03))
    assert apart["harmonic"] == pytest.approx(2 * red * green / (red + green), abs=0.03)
    assert f"unseen {apart['unseen']:.3f}" in done.stdout
    assert document["command"].startswith("ovs-bench accuracy")
    assert document["environment"]["cores"] >= 1


def test_speed_command_measures(tiny_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "speed.json"
    done = _bench("speed", "--model", str(tiny_bundle), "--runs", "5", "-o", str(output))
    assert done.returncode == 0, done.stderr
    speed = json.loads(output.read_text())["speed"]
    assert 0 < speed["latency_p50"] <= speed["latency_p90"] <= speed["latency_p99"]
    assert speed["runs"] == 5
    assert 20 < speed["peak_memory_mib"] < 2000


def test_depth_command_compares_engines(tmp_path: Path) -> None:
    output = tmp_path / "depth.json"
    done = _bench("depth", "mini", "--layers", "1,3,9", "--size", "64x96", "--runs", "2", "-o", str(output))
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())["depth"]
    assert [row["decoder_layers"] for row in rows] == [1, 3]
    assert rows[0]["gflops"] < rows[1]["gflops"]
    assert all(row["onnx_ms"] > 0 and row["torch_ms"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["depth", "mini", "--layers", "deep"], "expected numbers"),
        (["depth", "nothing.pt"], "no preset 'nothing.pt'"),
        (["accuracy", "--data", "nowhere", "--model", "{bundle}"], "no folder nowhere"),
        (["speed", "--model", "nowhere.ovs"], "no bundle at nowhere.ovs"),
    ],
)
def test_impossible_requests_are_one_line(tiny_bundle: Path, arguments: list[str], words: str) -> None:
    done = _bench(*(part.format(bundle=tiny_bundle) for part in arguments))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert words in done.stderr
