"""`ovs-run --smooth` and `--keyframes`, from the command line to the JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.tiny_bundle import build

from ovs_edge.runtime.cli import main


@pytest.fixture(scope="module")
def flickering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey frames that are in turn a little more red and a little more green: the network says one and the other."""
    folder = tmp_path_factory.mktemp("flicker")
    for index in range(6):
        image = np.full((48, 64, 3), 100, np.uint8)
        image[..., 2 - index % 2] += 3
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


def _labels(monkeypatch: pytest.MonkeyPatch, output: Path, *arguments: object) -> list[list[str]]:
    words = ["--classes", "red,green", "--background", "none", "--threshold", "0", "--json", output, *arguments]
    monkeypatch.setattr(sys, "argv", ["ovs-run", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    return [[region["class"] for region in line["classes"]] for line in lines]


def test_from_options_to_labels(
    flickering: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--source", flickering, "--model", tiny_bundle, "--no-show")
    out = tmp_path / "out.jsonl"
    assert _labels(monkeypatch, out, *common) == [["red"], ["green"]] * 3  # photos are judged each for itself
    assert _labels(monkeypatch, out, *common, "--smooth", "0.85") == [["red"]] * 6
    assert _labels(monkeypatch, out, *common, "--keyframes", "3") == [["red"]] * 3 + [["green"]] * 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--task", "semantic", "--smooth", "1.5"], "expected a number from 0 to 1"),
        (["--keyframes", "0"], "expected a number from 1 to 30"),
        (["--smooth", "0.5", "--task", "panoptic"], "use --task semantic"),
    ],
)
def test_impossible_options(
    flickering: Path,
    tmp_path: Path,
    options: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = build(tmp_path / "panoptic.ovs", panoptic=True)
    arguments = ["ovs-run", "--source", str(flickering), "--model", str(bundle), "--classes", "red", "--json", "-"]
    monkeypatch.setattr(sys, "argv", [*arguments, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2 and words in error and len(error.strip().splitlines()) == 1
