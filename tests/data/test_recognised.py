"""`ovs-train --data` takes labels of other tools as they are, and says what it took them for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.label_trees import CAT, KNOWN, corners, write_labelme, write_photo, write_text, write_yolo
from support.photos import write_index_masks

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data import recognised
from ovs_edge.data.datasets import open_dataset
from ovs_edge.data.recognised import recognise


def test_a_layout_that_is_read_stays_where_it_is(tmp_path: Path, private_cache: Path) -> None:
    folder = write_index_masks(tmp_path / "in")
    found = recognise(folder)
    assert (found.place, found.about, found.skipped) == (folder, f"{folder}: read as index-masks", ())
    assert not (private_cache / "ovs-edge/datasets").exists()


def test_labels_of_other_tools_are_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_yolo(tmp_path / "in")
    found = recognise(tmp_path / "in")
    assert found.about.startswith(f"{tmp_path / 'in'}: taken for YOLO segmentation, 1 photos in train, 1 in val")
    assert "--complete" in found.about
    assert len(found.skipped) == 3
    dataset = open_dataset(found.place, "train")
    assert dataset.name == "in"
    assert np.array_equal(dataset.load(0).labels, KNOWN)
    assert os.path.islink(dataset.entries[0].image)
    monkeypatch.setattr(recognised, "convert", None)
    assert recognise(tmp_path / "in") == found
    monkeypatch.undo()
    (tmp_path / "in/labels/train/a.txt").write_text("1 0 0 1 0 1 1 0 1\n")  # a label changes
    again = recognise(tmp_path / "in")
    assert again.place != found.place
    assert (open_dataset(again.place, "train").load(0).labels == 1).all()


def test_formats_are_told(tmp_path: Path) -> None:
    write_labelme(tmp_path / "labelme")
    document = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    write_photo(tmp_path / "coco/train/a.jpg")
    write_text(tmp_path / "coco/instances_train.json", document)
    points = ";".join(f"{x},{y}" for x, y in corners(CAT))
    write_photo(tmp_path / "cvat/images/a.jpg")
    write_text(
        tmp_path / "cvat/a.xml",
        f'<annotations><image id="0" name="a.jpg"><polygon label="cat" points="{points}"/></image></annotations>',
    )
    titles = [recognise(tmp_path / name).about for name in ("labelme", "coco", "cvat")]
    for title, about in zip(("LabelMe", "COCO instances or stuff", "CVAT's XML for images"), titles, strict=True):
        assert f"taken for {title}," in about


def test_what_is_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"):
        recognise(tmp_path / "nowhere")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="cannot be read as a data set"):
        recognise(tmp_path)
