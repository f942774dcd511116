"""`ovs-data convert --to coco-panoptic`: objects told apart, and read back as COCO panoptic."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.label_trees import CAT, DOG, KNOWN, PLAIN, corners, write_labelme, write_photo, write_text, write_yolo
from support.photos import write_coco_panoptic, write_index_masks

from ovs_edge.bundle.errors import UsageError
from ovs_edge.data.datasets import open_dataset
from ovs_edge.data.formats.convert import Conversion, ConvertOptions, convert
from ovs_edge.data.formats.label_format import ReadOptions
from ovs_edge.data.formats.registry import find_format
from ovs_edge.data.photo_sets import open_photos

PANOPTIC = ConvertOptions("coco-panoptic", train_share=0)


def _converted(folder: Path, target: Path, options: ConvertOptions = PANOPTIC, read: ReadOptions = PLAIN) -> Conversion:
    known = find_format(folder)
    return convert(folder, known, known.read(folder, read), target, options)


def _segments(target: Path, split: str = "val") -> dict[str, list[tuple[str, bool, int, list[int]]]]:
    """Of each photo: class, whether it is a thing, area, box."""
    document = json.loads((target / f"annotations/panoptic_{split}2017.json").read_text())
    categories = {entry["id"]: entry for entry in document["categories"]}
    names = {image["id"]: Path(image["file_name"]).stem for image in document["images"]}
    return {
        names[entry["image_id"]]: [
            (categories[part["category_id"]]["name"], bool(categories[part["category_id"]]["isthing"]), part["area"], part["bbox"])
            for part in entry["segments_info"]
        ]
        for entry in document["annotations"]
    }  # fmt: skip


def test_objects_are_told_apart(tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.jpg")
    shapes = [
        {"label": "cat", "points": corners(CAT)},
        {"label": "cat", "points": corners(DOG)},
        {"label": "dog", "points": corners((6, 0, 7, 1)), "group_id": 3},
        {"label": "dog", "points": corners((6, 4, 7, 6)), "group_id": 3},  # a part of the same dog
        {"label": "sky", "points": corners((7, 0, 8, 1))},
        {"label": "sky", "points": corners((7, 5, 8, 6))},
    ]
    write_text(tmp_path / "in/a.json", {"shapes": shapes, "imagePath": "a.jpg"})
    _converted(tmp_path / "in", tmp_path / "out", ConvertOptions("coco-panoptic", 0, ("sky",)))
    assert _segments(tmp_path / "out")["a"] == [
        ("cat", True, 12, [0, 0, 4, 4]),
        ("cat", True, 9, [2, 2, 3, 3]),
        ("dog", True, 3, [6, 0, 1, 6]),
        ("sky", False, 2, [7, 0, 1, 6]),
    ]
    photos = open_photos(str(tmp_path / "out"))
    truth = photos.load(0).truth
    assert photos.stuff == (False, False, True)
    assert truth.ids is not None
    assert len(np.unique(truth.ids)) == 5
    assert int(truth.labels[0, 0]) == int(truth.labels[4, 4]) == 0
    assert (truth.labels == -1).sum() == 48 - 12 - 9 - 3 - 2


@pytest.mark.parametrize("write", [write_labelme, write_yolo])
def test_labels_are_those_of_the_masks(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "in")
    result = _converted(tmp_path / "in", tmp_path / "out")
    for split in ("train", "val"):
        if not result.photos[split]:  # type: ignore[index]
            continue
        dataset = open_dataset(tmp_path / "out", split)  # type: ignore[arg-type]
        for index in range(len(dataset)):
            assert np.array_equal(dataset.load(index).labels, KNOWN)
    assert [name.names[0] for name in open_photos(str(tmp_path / "out")).classes] == ["cat", "dog"]


def test_masks_alone_are_one_segment_a_class(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "in")
    _converted(folder, tmp_path / "out")
    known, new = open_dataset(folder, "val"), open_dataset(tmp_path / "out", "val")
    for index in range(len(known)):
        assert np.array_equal(known.load(index).labels, new.load(index).labels)
    assert not any(thing for segments in _segments(tmp_path / "out").values() for _, thing, _, _ in segments)


def test_panoptic_labels_come_back(tmp_path: Path) -> None:
    folder = write_coco_panoptic(tmp_path / "in")
    _converted(folder, tmp_path / "out")
    known, new = open_photos(str(folder)), open_photos(str(tmp_path / "out"))
    assert len(new) == len(known) > 0
    for index in range(len(known)):
        first, second = known.load(index).truth, new.load(index).truth
        assert np.array_equal(first.labels, second.labels)
        assert first.ids is not None and second.ids is not None
        labelled = first.labels >= 0
        pairs = np.unique(np.stack([first.ids[labelled], second.ids[labelled]]), axis=1)
        things = {key for key, segment in first.segments.items() if not (known.stuff or ())[segment.label]}
        assert len(set(pairs[1].tolist())) == pairs.shape[1] or not things


def test_what_it_cannot_tell_is_told(tmp_path: Path) -> None:
    write_photo(tmp_path / "in/a.jpg")
    write_photo(tmp_path / "in/b.jpg")
    write_text(tmp_path / "in/a.json", {"shapes": [{"label": "cat", "points": corners(CAT)}], "imagePath": "a.jpg"})
    write_text(tmp_path / "in/b.json", {"shapes": [], "imagePath": "b.jpg"})
    complete = ReadOptions(complete=True)
    result = _converted(tmp_path / "in", tmp_path / "out", read=complete)
    assert result.background_lost == 1
    assert result.skipped == ("b.jpg: no label",)  # a photo of background alone says nothing there
    masks = _converted(tmp_path / "in", tmp_path / "masks", ConvertOptions(train_share=1), complete)
    assert (masks.background_lost, masks.skipped) == (0, ())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (ConvertOptions("pascal"), "the layout is 'pascal', expected one of: masks, coco-panoptic"),
        (ConvertOptions("masks", stuff=("cat",)), "which masks does not know"),
        (ConvertOptions("coco-panoptic", stuff=("sky",)), "'sky' was named as stuff and is no class"),
    ],
)
def test_options_that_make_no_sense(options: ConvertOptions, told: str, tmp_path: Path) -> None:
    write_labelme(tmp_path / "in")
    with pytest.raises(UsageError, match=told):
        _converted(tmp_path / "in", tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_links_instead_of_copies(tmp_path: Path) -> None:
    write_labelme(tmp_path / "in")
    write_photo(tmp_path / "in/b.jpg", (8, 6), orientation=6)  # turned by its note, so written anew
    _converted(tmp_path / "in", tmp_path / "out", ConvertOptions(train_share=1, link=True))
    images = tmp_path / "out/images/train"
    assert (images / "a.jpg").is_symlink() and (images / "a.jpg").resolve() == tmp_path / "in/a.jpg"
    assert not (images / "b.png").is_symlink()
    with Image.open(images / "b.png") as picture:
        assert picture.size == (8, 6)
    assert np.array_equal(open_dataset(tmp_path / "out", "train").load(0).labels, KNOWN)
