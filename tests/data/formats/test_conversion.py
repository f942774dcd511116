"""What every conversion keeps: names, splits, orientation, and the user's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.label_trees import (
    KNOWN,
    converted,
    corners,
    write_labelme,
    write_text,
)
from support.photos import write_coco_panoptic, write_index_masks

from ovs_edge.bundle.errors import DatasetError, UsageError
from ovs_edge.data.datasets import open_dataset
from ovs_edge.data.formats.convert import MARKER
from ovs_edge.data.formats.label_format import ReadOptions, read_names
from ovs_edge.data.formats.registry import FORMATS, find_format


@pytest.mark.parametrize("write", [write_index_masks, write_coco_panoptic])
def test_what_is_read_as_it_is(write: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    _, _, result = converted(folder, tmp_path / "out")
    known, new = open_dataset(folder, "train"), open_dataset(tmp_path / "out", "train")
    assert sum(result.photos.values()) == len(known) + len(open_dataset(folder, "val"))
    for index in range(len(known)):
        assert np.array_equal(known.load(index).labels, new.load(index).labels)
        assert np.array_equal(known.load(index).image, new.load(index).image)


def test_classes_are_renamed_joined_and_dropped(tmp_path: Path) -> None:
    write_labelme(tmp_path / "in")
    write_text(tmp_path / "names.txt", "\ufeff# one animal\ncat: animal\ndog: animal\n")
    options = ReadOptions(read_names(tmp_path / "names.txt"))
    classes, masks, _ = converted(tmp_path / "in", tmp_path / "joined", options)
    assert (classes, (masks["a"] == 0).sum()) == (["animal"], (KNOWN != 255).sum())
    write_text(tmp_path / "names.txt", "cat:\n")
    classes, masks, _ = converted(
        tmp_path / "in", tmp_path / "dropped", ReadOptions(read_names(tmp_path / "names.txt"))
    )
    assert (classes, (masks["a"] == 0).sum()) == (["dog"], (KNOWN == 1).sum())


@pytest.mark.parametrize(("content", "told"), [("", "names nothing"), (": x", "no name before"), ("a\na", "twice")])
def test_names_files_that_are_none(content: str, told: str, tmp_path: Path) -> None:
    write_text(tmp_path / "names.txt", content)
    with pytest.raises(UsageError, match=told):
        read_names(tmp_path / "names.txt")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_shapes_lie_on_the_photo_as_it_is_shown(orientation: int, tmp_path: Path) -> None:
    """Labelling tools turn a photo by its EXIF note; the converted photo is the one that they showed."""
    folder = tmp_path / "in"
    folder.mkdir()
    stored = np.zeros((40, 64, 3), np.uint8)
    stored[:20, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(folder / "a.jpg", exif=exif, quality=95)
    with Image.open(folder / "a.jpg") as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture))[..., 0] > 128
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    shape = {"label": "cat", "points": corners(box), "shape_type": "polygon"}
    write_text(folder / "a.json", {"shapes": [shape], "imagePath": "a.jpg"})
    converted(folder, tmp_path / "out")
    sample = open_dataset(tmp_path / "out", "train").load(0)
    assert ((sample.image[..., 0] > 128) == (sample.labels == 0)).mean() > 0.98


def test_nothing_of_the_users_is_overwritten(tmp_path: Path) -> None:
    write_labelme(tmp_path / "in")
    write_text(tmp_path / "out/mine.txt", "mine")
    with pytest.raises(UsageError, match="is not a converted data set"):
        converted(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match="is what is converted"):
        converted(tmp_path / "in", tmp_path / "in")
    assert (tmp_path / "out/mine.txt").read_text() == "mine"
    converted(tmp_path / "in", tmp_path / "again")
    converted(tmp_path / "in", tmp_path / "again")  # what a conversion wrote, another may replace
    assert (tmp_path / "again" / MARKER).is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "in", "out"]


def test_nothing_is_left_where_nothing_can_be_converted(tmp_path: Path) -> None:
    write_labelme(tmp_path / "in")
    for path in (tmp_path / "in").glob("*.jpg"):
        path.write_bytes(b"broken")
    (tmp_path / "in/c.png").unlink()
    with pytest.raises(DatasetError, match="no photo could be converted; the first"):
        converted(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_formats_have_names_of_their_own(tmp_path: Path) -> None:
    assert len({known.name for known in FORMATS}) == len(FORMATS)
    with pytest.raises(UsageError, match="--from is 'pascal', expected one of: colour-masks"):
        find_format(tmp_path, "pascal")
    with pytest.raises(DatasetError, match="holds no labels of a format that is known"):
        find_format(tmp_path)
