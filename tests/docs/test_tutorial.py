"""The tutorial's commands, in their order, on real photos whose labels are written as LabelMe would."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.outlines import outline, regions

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guides" / "tutorial-own-data.md"
DATA = ROOT.parent / "shared" / "data" / "msrc"
LABELLED, UNLABELLED = 24, 8
VOID = 255
# Small crops on one core: 200 steps in minutes.
CHEAPER = {"ovs-train": ["--batch", "2", "--crop", "128", "--view", "128", "--threads", "1", "--workers", "0"]}


def _commands() -> list[list[str]]:
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def _write_labelme(folder: Path, photos: list[Path], names: list[str]) -> None:
    folder.mkdir()
    for path in photos:
        shutil.copyfile(path, folder / path.name)
        labels = np.asarray(Image.open(DATA / f"masks/train/{path.stem}.png"))
        shapes = [
            {"label": "__ignore__" if value == VOID else names[value], "points": outline(region)}
            for value, region in regions(labels)
        ]
        document = {"shapes": shapes, "imagePath": path.name, "imageHeight": len(labels), "imageWidth": len(labels[0])}
        (folder / f"{path.stem}.json").write_text(json.dumps(document))


def _run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return subprocess.run(
        [*words, *CHEAPER.get(words[0], [])], cwd=folder, env=environment, check=False, capture_output=True, text=True
    )


def test_the_page_goes_all_the_way() -> None:
    names = [words[0] if words[0] != "ovs-data" else " ".join(words[:2]) for words in _commands()]
    assert names == ["ovs-data inspect", "ovs-data preview", "ovs-data convert", "ovs-train", "ovs-export", "ovs-label"]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no labelled photos at {DATA}")
def test_the_tutorial(tmp_path: Path) -> None:
    names = [entry.split("|")[0] for entry in json.loads((DATA / "classes.json").read_text())]
    every = sorted((DATA / "images/train").iterdir())
    photos = every[:: len(every) // (LABELLED + UNLABELLED)][: LABELLED + UNLABELLED]  # of all scenes
    _write_labelme(tmp_path / "labelme", photos[:LABELLED], names)
    (tmp_path / "unlabelled").mkdir()
    for path in photos[LABELLED:]:
        shutil.copyfile(path, tmp_path / "unlabelled" / path.name)
    for words in _commands():
        done = _run(words, tmp_path)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.width > 1000
    shown = set(json.loads((tmp_path / "mydata/classes.json").read_text()))
    assert shown <= set(names)
    # The labels fit the photos: far better than chance on photos that were not trained on.
    right = counted = 0
    for path in photos[LABELLED:]:
        document = json.loads((tmp_path / f"labelled/{path.stem}.json").read_text())
        assert {shape["label"] for shape in document["shapes"]} <= shown
        truth = np.asarray(Image.open(DATA / f"masks/train/{path.stem}.png"))
        found = _painted(document, names, truth.shape)
        known = (truth != VOID) & (found != VOID)
        right += int((found == truth)[known].sum())
        counted += int(known.sum())
    assert counted > 0
    assert right / counted > 0.5
    page = (tmp_path / "labelled/review/index.html").read_text(encoding="utf-8")
    assert sum(path.stem in page for path in photos[LABELLED:]) == UNLABELLED
    # What was labelled comes back as a training set.
    again = _run(["ovs-data", "convert", "labelled", "-o", "again"], tmp_path)
    assert again.returncode == 0, again.stderr


def _painted(document: dict[str, list[dict[str, object]]], names: list[str], size: tuple[int, ...]) -> np.ndarray:
    from ovs_edge.data.formats.shapes import fill

    labels = np.full(size, VOID, np.int32)
    for shape in document["shapes"]:
        points = [value for point in shape["points"] for value in point]  # type: ignore[attr-defined]
        labels[fill([points], (size[0], size[1]))] = names.index(str(shape["label"]))
    return labels
