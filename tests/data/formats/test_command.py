"""`ovs-data` from the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.photos import write_index_masks

from ovs_edge.data.cli import main
from ovs_edge.data.datasets import open_dataset
from ovs_edge.data.photo_sets import open_photos


@pytest.fixture
def labelme(tmp_path: Path) -> Path:
    """Thirty photos, each with a cat whose place differs; one has no label file."""
    folder = tmp_path / "labels"
    folder.mkdir()
    for number in range(30):
        Image.new("RGB", (32, 24), (number * 8, 90, 60)).save(folder / f"p{number}.jpg")
        shape = {"label": "cat", "points": [[1, 1], [9 + number % 9, 1], [9, 20]]}
        document = {"shapes": [shape], "imagePath": f"p{number}.jpg", "imageHeight": 24, "imageWidth": 32}
        (folder / f"p{number}.json").write_text(json.dumps(document))
    return folder


def _run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["ovs-data", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    out, error = capfd.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, out, error


def test_convert(
    labelme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "set"
    code, out, error = _run(monkeypatch, capfd, "convert", labelme, "-o", target, "--split", "0.7", "--complete")
    assert (code, error) == (0, "")
    train, val = open_dataset(target, "train"), open_photos(str(target))
    assert len(train) + len(val) == 30
    assert 15 <= len(train) <= 27
    assert f"{len(train)} photos in train, {len(val)} in val, 1 classes, 0 left out" in out
    first = sorted(path.name for path in (target / "images/train").iterdir())
    for number in range(30, 33):  # more photos leave the others in their splits
        (labelme / f"p{number}.json").write_bytes((labelme / "p0.json").read_bytes().replace(b"p0.jpg", b"p1.jpg"))
    assert _run(monkeypatch, capfd, "convert", labelme, "-o", target, "--split", "0.7")[0] == 0
    assert set(first) <= {path.name for path in (target / "images/train").iterdir()}


def test_inspect(
    labelme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, error = _run(monkeypatch, capfd, "inspect", labelme)
    assert (code, error) == (0, "")
    assert "LabelMe; photos: 30; 1 classes" in out
    assert "sizes: 32x24 (30)" in out
    folder = write_index_masks(tmp_path / "own")
    (folder / "images/val/1.jpg").write_bytes((folder / "images/train/0.jpg").read_bytes())
    (folder / "images/train/5.jpg").write_bytes(b"broken")
    (folder / "classes.json").write_text('["grass", "sky", "brick wall", "unicorn"]')
    code, out, _ = _run(monkeypatch, capfd, "inspect", folder)
    assert code == 1
    assert "photos: 5 in train, 2 in val; 4 classes" in out
    for problem in ("no pixel of unicorn", "the same photo: train/0, val/1", "cannot decode the photo"):
        assert f"problem: {problem}" in out


def test_preview(
    labelme: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    code, out, error = _run(monkeypatch, capfd, "preview", labelme, "-o", sheet, "--photos", "6")
    assert (code, out, error) == (0, f"wrote {sheet}\n", "")
    picture = np.asarray(Image.open(sheet))
    assert picture.shape[:2] == (2 * 260 + 28, 4 * 320)
    tile = picture[:240, :320].astype(int)
    assert np.abs(tile[30, 40] - tile[200, 300]).max() > 20  # the cat has a colour, the rest has its own


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("inspect", "nowhere"), "no folder nowhere"),
        (("convert", ".", "-o", "x", "--from", "pascal"), "--from is 'pascal', expected one of"),
        (("convert", ".", "-o", "x", "--split", "2"), "--split is 2, expected a share from 0 to 1"),
        (("preview", ".", "-o", "x.txt"), "-o is x.txt, expected a name that ends in .jpg or .png"),
        (("inspect", "."), "holds no labels of a format that is known"),
    ],
)
def test_refusals(
    words: tuple[str, ...],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = _run(monkeypatch, capfd, *words)
    assert code == 2
    assert told in " ".join(error.split())
    assert list(tmp_path.iterdir()) == []
