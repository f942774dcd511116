"""`ovs-train --data` says what it took each folder for, and trains on labels of other tools."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from rich.console import Console
from support.label_trees import KNOWN, write_labelme, write_yolo
from support.photos import write_index_masks

from ovs_edge.training.options import TrainingRunOptions
from ovs_edge.training.photos.sets import open_sets


def test_folders_of_any_known_labels(tmp_path: Path) -> None:
    write_labelme(tmp_path / "labelme")
    write_yolo(tmp_path / "yolo")
    write_index_masks(tmp_path / "own")
    console = Console(file=io.StringIO(), width=200)
    folders = [(tmp_path / name, 1.0) for name in ("labelme", "yolo", "own")]
    sets = open_sets(TrainingRunOptions(folders, tmp_path / "run"), console)
    told = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"{tmp_path / 'labelme'}: taken for LabelMe, " in told
    assert f"{tmp_path / 'yolo'}: taken for YOLO segmentation, 1 photos in train, 1 in val" in told
    assert f"{tmp_path / 'own'}: read as index-masks" in told
    assert "labelme: left out: a.json: a line covers no pixels" in told
    assert [dataset.name for dataset, _ in sets.train] == ["labelme", "yolo", "own"]
    for dataset, _ in sets.train[:2]:
        sample = dataset.load(0)
        names = [category.names[0] for category in dataset.classes]
        found = np.array(["" if value == 255 else names[value] for value in sample.labels.ravel()]).reshape(KNOWN.shape)
        assert np.array_equal(found == "cat", KNOWN == 0)
        assert np.array_equal(found == "dog", KNOWN == 1)
