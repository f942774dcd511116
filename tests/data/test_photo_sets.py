"""Readers of photo sets, on small trees in the layout in which each is published, irregularities included."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.io import savemat
from support.photos import write_coco_panoptic, write_index_masks

from ovs_edge.benchmarks.accuracy.class_list import entries
from ovs_edge.benchmarks.accuracy.panoptic_quality import TrueSegment
from ovs_edge.bundle.errors import DatasetError, UsageError
from ovs_edge.data.labelled import VOID, PhotoSet
from ovs_edge.data.mask_files import look_up
from ovs_edge.data.photo_sets import open_photos

SIZE = (4, 6)


def _photo(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), 90, np.uint8))


def _mask(path: Path, values: list[int], dtype: type = np.uint8) -> None:
    """A mask whose columns hold these values, the last of them to the right edge."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.array([*values, *[values[-1]] * (SIZE[1] - len(values))], dtype)
    cv2.imwrite(str(path), np.broadcast_to(columns, SIZE).copy())


def _columns(photos: PhotoSet, index: int = 0) -> list[int]:
    labels: npt.NDArray[np.int32] = photos.load(index).truth.labels
    assert labels.dtype == np.int32
    assert (labels == labels[0]).all()
    return labels[0].tolist()


def _names(photos: PhotoSet, *indices: int) -> list[str]:
    return [photos.classes[index].names[0] for index in indices]


def test_ade20k_150_counts_from_one(tmp_path: Path) -> None:
    for name in ("ADE_val_00000001", "ADE_val_00000002"):
        _photo(tmp_path / "images/validation" / f"{name}.jpg")
    _photo(tmp_path / "images/training/ADE_train_00000001.jpg")
    _mask(tmp_path / "annotations/validation/ADE_val_00000001.png", [0, 1, 150])
    photos = open_photos(str(tmp_path))
    assert (photos.name, len(photos), len(photos.classes)) == ("ade20k-150", 1, 150)
    assert photos.skipped == ("ADE_val_00000002.jpg: no mask ADE_val_00000002.png",)
    assert _columns(photos) == [VOID, 0, 149, 149, 149, 149]
    assert _names(photos, 0, 1, 149) == ["wall", "building", "flag"]
    _mask(tmp_path / "annotations/validation/ADE_val_00000002.png", [151])
    with pytest.raises(DatasetError, match="holds the value 151, expected 0 to 150"):
        open_photos(str(tmp_path)).load(1)


@pytest.fixture
def full_ade(tmp_path: Path) -> Path:
    """Four objects; the second is only a part in validation, the fourth is never in training."""
    folder = tmp_path / "ADE20K_2021_17_01"
    place = folder / "images/ADE/validation/home/attic"
    _photo(place / "ADE_val_00000001.jpg")
    colours = np.zeros((*SIZE, 3), np.uint8)  # RGB
    colours[:, 1:] = (0, 1, 7)  # object 1, and an instance's number
    colours[:, 2:] = (0, 2, 0)
    colours[:, 3:] = (10, 3, 9)  # object 259: more than a byte holds
    Image.fromarray(colours).save(place / "ADE_val_00000001_seg.png")
    names = np.array(["wall, painted wall", "knob", "seat", *[f"thing {n}" for n in range(3, 258)], "door"], object)
    presence = np.zeros((259, 2))
    presence[0], presence[1], presence[258], presence[2] = (3, 1), (1, 2), (1, 1), (0, 4)
    part = np.zeros((259, 2))
    part[1] = (0, 2)
    folders = np.array(["ADE20K_2021_17_01/images/ADE/training/a", "ADE20K_2021_17_01/images/ADE/validation/b"], object)
    index = {"objectnames": names, "folder": folders, "objectPresence": presence, "objectIsPart": part}
    savemat(folder / "index_ade20k.mat", {"index": index})
    return folder


def test_ade20k_full_keeps_what_both_splits_show(full_ade: Path) -> None:
    photos = open_photos(str(full_ade))
    assert photos.name == "ade20k-847"
    assert [entry.names for entry in photos.classes] == [("wall", "painted wall"), ("door",)]
    assert _columns(photos) == [VOID, 0, VOID, 1, 1, 1]


def test_ade20k_full_tells_when_its_classes_are_not_the_847(
    full_ade: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    open_photos(str(full_ade))
    assert "2 classes are evaluated, not the 847 of papers" in caplog.text
    caplog.clear()
    monkeypatch.setattr("ovs_edge.data.readers.ade20k.FULL", 2)
    open_photos(str(full_ade))
    assert not caplog.text


def test_ade20k_full_by_a_list(full_ade: Path) -> None:
    (full_ade / "classes.json").write_text(json.dumps(["door", "knob"]))
    assert _columns(open_photos(f"ade20k-847:{full_ade}")) == [VOID, VOID, 1, 0, 0, 0]
    (full_ade / "classes.json").write_text(json.dumps(["gate"]))
    with pytest.raises(DatasetError, match=r"names .*gate.*, expected objects of index_ade20k\.mat"):
        open_photos(f"ade20k-847:{full_ade}")
    (full_ade / "index_ade20k.mat").write_bytes(b"no")
    with pytest.raises(DatasetError, match=r"cannot read .*index_ade20k\.mat"):
        open_photos(f"ade20k-847:{full_ade}")


def _voc(folder: Path, year: str, stems: list[str], split: str = "Segmentation") -> Path:
    root = folder / year
    (root / "ImageSets" / split).mkdir(parents=True)
    (root / "ImageSets" / split / "val.txt").write_text("\n".join(stems) + "\n\n")
    for stem in stems:
        _photo(root / "JPEGImages" / f"{stem}.jpg")
    return root


def test_voc_borders_and_background(tmp_path: Path) -> None:
    root = _voc(tmp_path, "VOC2012", ["2007_000033", "2007_000042"])
    picture = Image.fromarray(np.broadcast_to(np.array([0, 255, 1, 20, 20, 20], np.uint8), SIZE).copy(), "P")
    picture.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])  # colours, as published
    (root / "SegmentationClass").mkdir()
    picture.save(root / "SegmentationClass/2007_000033.png")
    things = open_photos(f"voc-20:{tmp_path}")
    assert (len(things.classes), len(things), len(things.skipped)) == (20, 1, 1)
    assert _columns(things) == [VOID, VOID, 0, 19, 19, 19]
    assert _names(things, 0, 19) == ["aeroplane", "tv monitor"]
    everything = open_photos(f"voc-21:{root}")
    assert _columns(everything) == [0, VOID, 1, 20, 20, 20]
    background, *things_asked = (set(asked.split("|")) for asked in entries(everything.classes, synonyms=False))
    assert {"sky", "grass", "wall"} < background
    assert len(background) == 39
    assert not {"person", "table", "aeroplane", "background"} & background
    assert all(len(names) == 1 for names in things_asked)
    with pytest.raises(UsageError, match="holds voc-20 and voc-21, expected one of them"):
        open_photos(str(root))


def _context_labels(folder: Path) -> dict[str, int]:
    """A labels.txt with names of ours and others, in an order of its own; name -> number."""
    from ovs_edge.data.names.synonyms import shipped_senses

    spelled = {"potted plant": "pottedplant", "tv monitor": "tvmonitor"}
    names = [spelled.get(name, name) for name in shipped_senses()["sets"]["pascal_context_59"]]
    names = ["accordion", *reversed(names), "zebra", "clothes"]
    (folder / "labels.txt").write_text("".join(f"{number}: {name}\n" for number, name in enumerate(names, 1)))
    return {name: number for number, name in enumerate(names, 1)}


def test_context_of_459_and_the_59_in_it(tmp_path: Path) -> None:
    _voc(tmp_path / "VOCdevkit", "VOC2010", ["2008_000002"], "Main")
    numbers = _context_labels(tmp_path)
    (tmp_path / "trainval").mkdir()
    columns = [0, numbers["accordion"], numbers["tvmonitor"], numbers["table"], numbers["cloth"], numbers["clothes"]]
    labels = np.broadcast_to(np.array(columns, np.uint16), SIZE)
    savemat(tmp_path / "trainval/2008_000002.mat", {"LabelMap": labels})
    photos = open_photos(f"context-459:{tmp_path}")
    assert len(photos.classes) == 62
    assert _columns(photos) == [VOID, *(number - 1 for number in columns[1:])]
    few = open_photos(f"context-59:{tmp_path}")
    found = _columns(few)
    assert found[:2] == [VOID, VOID]
    assert found[5] == VOID
    assert len(few.classes) == 59
    assert _names(few, *found[2:5]) == ["tv monitor", "table", "cloth"]
    savemat(tmp_path / "trainval/2008_000002.mat", {"LabelMap": labels.astype(float)})
    with pytest.raises(DatasetError, match="LabelMap is float64"):
        few.load(0)
    savemat(tmp_path / "trainval/2008_000002.mat", {"Map": labels})
    with pytest.raises(DatasetError, match="holds no LabelMap"):
        few.load(0)
    with pytest.raises(UsageError, match="context-59 and context-459"):
        open_photos(str(tmp_path))


def test_context_as_mmsegmentation_converts_it(tmp_path: Path) -> None:
    """The 59 in alphabetical order, and with the background in front of them."""
    root = _voc(tmp_path, "VOC2010", ["2008_000002"], "SegmentationContext")
    (root / "SegmentationClassContext").mkdir()
    columns = np.array([0, 1, 2, 41, 59, 59], np.uint8)
    Image.fromarray(np.broadcast_to(columns, SIZE).copy()).save(root / "SegmentationClassContext/2008_000002.png")
    photos = open_photos(str(root))
    assert photos.name == "context-59"
    assert _columns(photos) == [VOID, 0, 1, 40, 58, 58]
    assert _names(photos, 0, 1, 40, 58) == ["aeroplane", "bag", "road", "wood"]
    everything = open_photos(f"context-60:{root}")
    assert len(everything.classes) == 60
    assert _columns(everything) == columns.tolist()
    assert _names(everything, 0, 1) == ["background", "aeroplane"]


def test_coco_stuff_and_its_objects(tmp_path: Path) -> None:
    """A mask's value is the id less one; for the objects, stuff and what nobody labelled are the background."""
    masks = tmp_path / "annotations/val2017"
    masks.mkdir(parents=True)
    _photo(tmp_path / "images/val2017/000000000139.jpg")
    columns = np.array([0, 12, 89, 91, 181, 255], np.uint8)
    Image.fromarray(np.broadcast_to(columns, SIZE).copy()).save(masks / "000000000139.png")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(masks / "000000000139_labelTrainIds.png")
    photos = open_photos(str(tmp_path))
    assert (photos.name, len(photos.classes), len(photos)) == ("coco-stuff", 171, 1)
    assert _columns(photos) == [0, 11, 79, 80, 170, VOID]
    assert _names(photos, 0, 11, 79, 80, 170) == ["person", "stop sign", "toothbrush", "banner", "wood"]
    objects = open_photos(f"coco-object:{tmp_path}")
    assert len(objects.classes) == 81
    assert _columns(objects) == [1, 12, 80, 0, 0, 0]
    assert "sky" in objects.classes[0].names
    Image.fromarray(np.full(SIZE, 11, np.uint8)).save(masks / "000000000139.png")  # a street sign, which COCO left out
    with pytest.raises(DatasetError, match="ids of COCO-Stuff less one"):
        photos.load(0)


def test_context_of_59_in_its_own_files(tmp_path: Path) -> None:
    """Its file of names calls the table a diningtable, and cloth clothes."""
    _voc(tmp_path, "VOC2010", ["2008_000002"], "SegmentationContext")
    (tmp_path / "59_labels.txt").write_text("0: empty\n1: aeroplane\n11: diningtable\n28: clothes\n52: bedcloth\n")
    _mask(tmp_path / "59_context_labels/2008_000002.png", [0, 11, 28, 52, 1])
    photos = open_photos(str(tmp_path))
    assert _columns(photos) == [VOID, 1, 2, 3, 0, 0]
    assert _names(photos, 0, 1, 2, 3) == ["aeroplane", "table", "cloth", "bedclothes"]


@pytest.mark.parametrize(
    ("kind", "stored"), [("labelIds", [7, 0, 26, 255, 33, 16]), ("labelTrainIds", [0, 255, 13, 255, 18, 255])]
)
def test_cityscapes(tmp_path: Path, kind: str, stored: list[int]) -> None:
    name = "frankfurt_000000_000294"
    _photo(tmp_path / "leftImg8bit/val/frankfurt" / f"{name}_leftImg8bit.png")
    _photo(tmp_path / "leftImg8bit/val/lindau" / "lindau_000000_000019_leftImg8bit.png")
    _mask(tmp_path / "gtFine/val/frankfurt" / f"{name}_gtFine_{kind}.png", stored)
    photos = open_photos(str(tmp_path))
    assert len(photos.classes) == 19
    assert len(photos) == len(photos.skipped) == 1
    assert _columns(photos) == [0, VOID, 13, VOID, 18, VOID]
    assert _names(photos, 0, 13, 18) == ["road", "car", "bicycle"]


def test_coco_has_segments_and_crowds(tmp_path: Path) -> None:
    photos = open_photos(str(write_coco_panoptic(tmp_path / "coco")))
    truth = photos.load(0).truth
    assert truth.ids is not None
    assert truth.ids[0, 0] == 70000
    assert truth.segments == {70000: TrueSegment(1), 300: TrueSegment(0), 5: TrueSegment(0, crowd=True)}
    assert [truth.labels[place] for place in ((0, 0), (30, 10), (30, 40), (30, 55))] == [1, 0, VOID, VOID]
    assert photos.stuff == (False, False)
    assert photos.skipped == ("2.jpg: empty annotation",)


def test_index_masks_and_identity(tmp_path: Path) -> None:
    photos = open_photos(str(write_index_masks(tmp_path / "own")))
    assert (photos.load(0).truth.labels[:3] == VOID).all()
    assert photos.stuff is None
    again = pickle.loads(pickle.dumps(photos))  # worker processes get it so
    assert again == photos
    assert again.digest == photos.digest
    _photo(tmp_path / "own/images/val/0.jpg", (8, 8))
    assert again.digest != photos.classes
    assert open_photos(str(tmp_path / "own")).digest != ""
    with pytest.raises(DatasetError, match="is 112x80, its photo 8x8"):
        photos.load(0)


@pytest.mark.parametrize("orientation", [3, 6])
def test_photos_are_read_as_their_masks_lie(tmp_path: Path, orientation: int) -> None:
    """Masks are made from the stored pixels, whatever the camera noted about how it was held."""
    folder = write_index_masks(tmp_path / "own")
    pixels = np.zeros((80, 112, 3), np.uint8)
    pixels[:, :56, 0] = 255  # red on the left, in RGB
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(folder / "images/val/0.jpg", exif=exif)
    photos = open_photos(str(folder))
    image = photos.load(0).image
    assert image.shape == (80, 112, 3)
    assert image[:, 8:48, 2].min() > 128 > image[:, 64:, 2].max()
    if orientation == 6:  # a mask that was drawn on the photo turned upright: a quarter to the right, so red is above
        Image.fromarray(np.zeros((112, 80), np.uint8)).save(folder / "masks/val/0.png")
        image = photos.load(0).image
        assert image.shape == (112, 80, 3)
        assert image[8:48, :, 2].min() > 128 > image[64:, :, 2].max()


def test_identity_tells_what_segments_mean(tmp_path: Path) -> None:
    """COCO keeps the classes of its segments in one file beside the masks."""
    folder = write_coco_panoptic(tmp_path / "coco")
    before = open_photos(str(folder)).digest
    path = folder / "annotations/panoptic_val2017.json"
    document = json.loads(path.read_text())
    part = document["annotations"][0]["segments_info"][0]
    part["category_id"] = next(one["id"] for one in document["categories"] if one["id"] != part["category_id"])
    path.write_text(json.dumps(document))
    assert open_photos(str(folder)).digest != before


def test_values_out_of_range() -> None:
    for values in ([[-1]], [[300]], [[1]]):
        with pytest.raises(DatasetError, match=f"m holds the value {values[0][0]}, expected two"):
            look_up(np.array(values), {0: VOID, 2: 0}, "m", "two")


@pytest.mark.parametrize(
    ("given", "words"),
    [("nowhere", "no folder nowhere"), ("{}", "no data set that is known"), ("voc-20:{}", "no JPEG")],
)
def test_folders_that_are_none(tmp_path: Path, given: str, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        open_photos(given.format(tmp_path))


def test_a_folder_without_masks(tmp_path: Path) -> None:
    _photo(tmp_path / "images/validation/a.jpg")
    (tmp_path / "annotations/validation").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"no photo with a mask .*1 skipped; the first: a\.jpg: no mask a\.png"):
        open_photos(str(tmp_path))
