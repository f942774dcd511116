"""Labelled photos are checked before they are used: masks that say nothing, files left out, byte order marks."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.photos import write_coco_panoptic, write_index_masks

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data.datasets import open_dataset
from ovs_edge.data.folders import told
from ovs_edge.data.photo_sets import open_photos
from ovs_edge.data.text_files import listed, read_json
from ovs_edge.data.validate import inspect

SIZE = (8, 12)  # height, width


def _own(folder: Path, masks: Callable[[int], np.ndarray], classes: int = 2, photos: int = 5) -> Path:
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "masks" / split).mkdir(parents=True)
        for index in range(photos):
            Image.new("RGB", SIZE[::-1]).save(folder / "images" / split / f"p{index}.jpg")
            Image.fromarray(masks(index)).save(folder / "masks" / split / f"p{index}.png")
    (folder / "classes.json").write_text(json.dumps([f"class {index}" for index in range(classes)]))
    return folder


def _refused(folder: Path, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        open_dataset(folder, "train")
    with pytest.raises(DatasetError, match=words):
        open_photos(str(folder))


def test_masks_without_a_label_are_refused(tmp_path: Path) -> None:
    folder = _own(tmp_path / "own", lambda index: np.full(SIZE, 255, np.uint8))
    _refused(folder, r"own: no pixel of any mask is labelled \(5 masks read\)")


def test_one_label_is_enough(tmp_path: Path) -> None:
    def mask(index: int) -> np.ndarray:
        values = np.full(SIZE, 255, np.uint8)
        values[0, 0] = 1 if index == 3 else 255
        return values

    assert len(open_photos(str(_own(tmp_path / "own", mask)))) == 5


def _binary(index: int) -> np.ndarray:
    values = np.zeros(SIZE, np.uint8)
    values[2:5, 2 : 2 + index] = 255  # the first photo shows no object
    return values


def test_binary_masks_of_several_classes_are_refused(tmp_path: Path) -> None:
    folder = _own(tmp_path / "own", _binary)
    _refused(folder, r"of its 2 classes only the first, 'class 0', has pixels in 5 masks.*--from binary-masks")


def test_binary_masks_of_few_photos_are_refused(tmp_path: Path) -> None:
    _refused(_own(tmp_path / "own", _binary, photos=3), r"only the first, 'class 0', has pixels in 3 masks")


def test_a_class_alone_in_few_photos_is_no_fault(tmp_path: Path) -> None:
    folder = _own(tmp_path / "own", lambda index: np.zeros(SIZE, np.uint8), photos=3)
    assert len(open_photos(str(folder))) == 3


def test_0_and_255_of_one_class_may_mean_two_things(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = _own(tmp_path / "own", lambda index: _binary(index + 1), classes=1)
    assert len(open_dataset(folder, "train")) == len(open_photos(str(folder))) == 5
    told = capsys.readouterr().err
    assert told.count("note: own: 0 in its masks is read as 'class 0', 255 as not labelled") == 1
    for split in ("train", "val"):
        (folder / "background" / split).mkdir(parents=True)
        for mask in (folder / "masks" / split).iterdir():
            Image.fromarray((np.asarray(Image.open(mask)) == 255).astype(np.uint8)).save(
                folder / "background" / split / mask.name
            )
    os.rename(folder, tmp_path / "known")
    open_photos(str(tmp_path / "known"))
    assert capsys.readouterr().err == ""


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = _own(tmp_path / "own", lambda index: np.ones((SIZE[0] - 1, SIZE[1]), np.uint8))
    _refused(folder, r"own: no photo and mask can be used; the first: .*p0\.png is 12x7, its photo 12x8; expected the")


def test_masks_in_colours_are_refused(tmp_path: Path) -> None:
    folder = _own(tmp_path / "own", lambda index: np.full((*SIZE, 3), (128, 64, 0), np.uint8))
    _refused(folder, r"no photo and mask can be used; the first: .*p0\.png is an RGB picture \(colours \(128, 64, 0\)")


def test_what_a_set_holds_is_counted(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "own")
    (folder / "masks/train/1.png").write_bytes(b"broken")
    Image.new("L", (3, 3)).save(folder / "masks/train/2.png")
    (folder / "images/train/3.jpg").write_bytes(b"broken")
    dataset, steps = open_dataset(folder, "train"), []
    photos = open_photos(str(folder))
    report = inspect(photos.files, photos.read, len(photos.classes), lambda: steps.append(1))
    assert (report.readable, len(steps), report.problems) == (2, 2, ())
    assert report.pixels.sum() + report.unlabelled == 2 * 80 * 112
    assert report.unlabelled == 2 * 3 * 112
    report = dataset.report()
    assert report.readable == 3
    assert [line.split(str(folder))[0] for line in report.problems] == [
        "cannot decode the mask ",
        "",
        "cannot decode the photo ",
    ]
    assert "is 3x3, its photo 112x80" in report.problems[1]
    (folder / "classes.json").write_text('["grass", "sky", "brick wall", "unicorn"]')
    more = open_dataset(folder, "train")
    assert more.absent(more.report())[-1] == 3


def test_every_file_that_is_left_out_has_its_reason(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "own", photos=6)
    images, masks = folder / "images/train", folder / "masks/train"
    (masks / "0.png").rename(masks / "0_gtFine_labelIds.png")
    (masks / "1.png").unlink()
    (images / "2.jpg").unlink()
    (images / "notes.txt").write_text("about")
    Image.open(images / "3.jpg").save(images / "3.png")
    for name in (".DS_Store", "._4.jpg", "Thumbs.db"):
        (images / name).write_bytes(b"x")
    assert open_dataset(folder, "train").skipped == (
        "0.jpg: no mask masks/train/0.png; there is 0_gtFine_labelIds.png",
        "1.jpg: no mask masks/train/1.png",
        "3.png: 3.jpg has the same name and takes the mask",
        "notes.txt: not a photo by its suffix",
        "masks/train/0_gtFine_labelIds.png: no photo",
        "masks/train/2.png: no photo",
    )


def test_the_first_reason_is_told_where_nothing_is_left(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "own")
    for split in ("train", "val"):
        for path in (folder / "masks" / split).iterdir():
            path.rename(path.with_name(f"{path.stem}_labels.png"))
    _refused(folder, r"the first: 0\.jpg: no mask masks/(train|val)/0\.png; there is 0_labels\.png")
    for split in ("train", "val"):
        for path in (folder / "masks" / split).iterdir():
            path.unlink()
        (folder / "masks" / split).rmdir()
    _refused(folder, r"the first: 0\.jpg: no mask masks/(train|val)/0\.png; there is no folder .*masks/(train|val)")


def test_photos_without_folders_of_splits(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "own")
    for kind in ("images", "masks"):
        for path in (folder / kind / "train").iterdir():
            path.rename(folder / kind / path.name)
        for split in ("train", "val"):
            for path in (folder / kind / split).iterdir():
                path.unlink()
            (folder / kind / split).rmdir()
    _refused(folder, r"there is no folder .*images/(train|val); 6 photos lie right in .*images/, without a folder for")


def test_splits_of_other_names(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "own")
    (folder / "images/train").rename(folder / "images/training")
    with pytest.raises(DatasetError, match=r"no folder .*images/train; images/ holds training, val; expected photos"):
        open_dataset(folder, "train")


def test_photos_of_any_format(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "own")
    for index, suffix in enumerate((".tif", ".bmp", ".webp", ".JPEG")):
        path = folder / f"images/train/{index}.jpg"
        Image.open(path).save(path.with_suffix(suffix))
        path.unlink()
    dataset = open_dataset(folder, "train")
    assert (len(dataset), dataset.skipped) == (6, ())
    assert all(dataset.load(index).image.shape == (80, 112, 3) for index in range(6))


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (b"", "utf-8"),
    ],
)
def test_byte_order_marks_are_read(mark: bytes, encoding: str, tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "own")
    names = ["Gras", "Höhle", "Ziegelwand"]
    (folder / "classes.json").write_bytes(mark + json.dumps(names, ensure_ascii=False).encode(encoding))
    assert [entry.names[0] for entry in open_photos(str(folder)).classes] == names
    (tmp_path / "val.txt").write_bytes(mark + "p0\r\np1\r\n".encode(encoding))
    assert listed(tmp_path / "val.txt") == ["p0", "p1"]


def test_text_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfea")
    with pytest.raises(DatasetError, match=r"cannot read .*a\.json .*save it as UTF-8"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(DatasetError, match="expected JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DatasetError, match=r"cannot read the list .*No such file"):
        listed(tmp_path / "none.txt")


def test_reasons_are_shortened() -> None:
    assert told(("a", "b")) == ["a", "b"]
    assert told(tuple("abcdefgh")) == [*"abcde", "and 3 more"]


def test_coco_tells_which_file_is_missing(tmp_path: Path) -> None:
    folder = write_coco_panoptic(tmp_path / "coco")
    path = folder / "annotations/panoptic_train2017.json"
    document = json.loads(path.read_text())
    first = document["annotations"][0]
    document["images"] += [{"id": 3, "file_name": "3.jpg"}]
    document["annotations"] += [{**first, "image_id": 3}, {**first, "file_name": "none.png"}]
    path.write_text(json.dumps(document))
    assert open_dataset(folder, "train").skipped == (
        "2.jpg: empty annotation",
        "3.jpg: no such photo",
        "1.jpg: no mask none.png",
    )


@pytest.mark.parametrize(
    ("files", "told_as"),
    [
        ({"a.json": '{"version": "5", "shapes": [], "imagePath": "a.jpg", "imageData": null}'}, "LabelMe's JSON files"),
        ({"data.yaml": "names: [a]", "labels/train/a.txt": "0 0 0 1 1"}, "YOLO's text files with data.yaml"),
        ({"labels/train/a.txt": "0 0 0 1 1"}, "YOLO's text files"),
        ({"annotations/i.json": '{"images": [], "annotations": [], "categories": []}'}, "COCO instances"),
        ({"labelmap.txt": "a:1,2,3::", "SegmentationObject/a.png": ""}, "CVAT's segmentation masks"),
        ({"annotations.xml": '<?xml version="1.0"?><annotations><image id="0"/></annotations>'}, "CVAT's XML"),
        ({"Annotations/a.xml": "<annotation><folder/></annotation>"}, "boxes in XML files"),
        ({"meta.json": '{"classes": [], "tags": []}'}, "a Supervisely project"),
        ({"readme.txt": "hello", "broken.json": "{"}, "no data set that is known"),
    ],
)
def test_formats_that_are_not_read_are_named(files: dict[str, str], told_as: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    _refused(tmp_path, told_as)


def test_training_reads_published_layouts(tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "JPEGImages").mkdir()
    (root / "SegmentationClass").mkdir()
    (root / "ImageSets/Segmentation/train.txt").write_bytes(codecs.BOM_UTF8 + b"2007_000032\n")
    Image.new("RGB", SIZE[::-1]).save(root / "JPEGImages/2007_000032.jpg")
    values = np.zeros(SIZE, np.uint8)
    values[2:], values[5:] = 255, 20
    Image.fromarray(values).save(root / "SegmentationClass/2007_000032.png")
    dataset = open_dataset(tmp_path, "train")
    sample = dataset.load(0)
    assert (dataset.layout, len(dataset.classes)) == ("voc-20", 20)
    assert sample.labels[:, 0].tolist() == [255] * 5 + [19] * 3
    assert sample.background is not None
    assert (
        sample.background[:, 0].tolist() == [True] * 2 + [False] * 6
    )  # VOC's 0 is none of the twenty, its 255 a border
    assert open_dataset(f"voc-21:{tmp_path}", "train").load(0).labels[:, 0].tolist() == [0] * 2 + [255] * 3 + [20] * 3
