"""Readers, names, crops: what enters training is what the files say."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from support.photos import write_coco_panoptic, write_index_masks

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.bundle.metrics import confusion, intersection_over_union
from ovs_edge.data.datasets import TrainingSample, open_dataset
from ovs_edge.data.names.category_names import category_names, plain_name
from ovs_edge.training.photos.augment import AugmentOptions, random_crop
from ovs_edge.training.photos.batches import CropDataset, collate, to_target
from ovs_edge.training.splits import Split, hide


def test_index_masks_are_read_as_written(tmp_path: Path) -> None:
    dataset = open_dataset(write_index_masks(tmp_path / "shapes"), "train")
    sample = dataset.load(0)
    assert len(dataset) == 6
    assert [entry.names[0] for entry in dataset.classes] == ["grass", "sky", "brick wall"]
    assert sample.image.shape == (80, 112, 3)
    assert set(np.unique(sample.labels[:3])) == {255}
    assert set(np.unique(sample.labels[3:])) <= {0, 1, 2}


@pytest.mark.parametrize(("orientation", "stored"), [(3, True), (6, True), (6, False)])
def test_photos_lie_as_their_masks_do(tmp_path: Path, orientation: int, *, stored: bool) -> None:
    """Cameras note how they were held; masks are drawn on the pixels as stored, or on the picture as shown."""
    write_index_masks(tmp_path / "d", photos=2)
    (mask_path,) = sorted((tmp_path / "d/masks/train").iterdir())[:1]
    photo_path = next((tmp_path / "d/images/train").glob(f"{mask_path.stem}.*"))
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:16, :24] = 255  # one bright corner
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    photo_path.unlink()
    Image.fromarray(pixels).save(photo_path.with_suffix(".jpg"), exif=exif, quality=95)
    bright = (pixels[..., 0] > 0).astype(np.uint8)
    Image.fromarray(bright if stored else np.rot90(bright, -1).copy()).save(mask_path)
    sample = next(
        sample
        for sample in map(open_dataset(tmp_path / "d", "train").load, range(1))
        if sample.name.startswith(mask_path.stem)
    )
    assert ((sample.image[..., 0] > 128) == (sample.labels == 1)).mean() > 0.98


def test_coco_segment_ids_use_all_three_bytes_and_crowds_stay_unlabelled(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco_panoptic(tmp_path / "coco"), "val")
    labels = dataset.load(0).labels
    assert (labels[:20] == 1).all()
    assert (labels[20:, :30] == 0).all()
    assert (labels[20:, 30:] == 255).all()
    assert [entry.names[0] for entry in dataset.classes] == ["cat", "sky"]
    assert dataset.skipped == ("2.jpg: empty annotation",)


@pytest.mark.parametrize(
    ("category", "plain"),
    [
        ("wall-other-merged", "wall"),
        ("wall-brick", "brick wall"),
        ("door-stuff", "door"),
        ("tree-merged", "tree"),
        ("playingfield", "playing field"),
        ("traffic light", "traffic light"),
    ],
)
def test_category_names_become_words(category: str, plain: str) -> None:
    assert plain_name(category) == plain


def test_own_synonyms_replace_the_known_ones() -> None:
    assert category_names("bicycle").names == ("bicycle", "bike", "cycle")
    assert category_names("bicycle|velo").names == ("bicycle", "velo")
    assert "person" in category_names("body").related


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "shapes")
    (folder / "images/train/0.jpg").write_bytes((folder / "images/train/0.jpg").read_bytes()[:60])
    cv2.imwrite(str(folder / "masks/train/1.png"), np.zeros((10, 10), np.uint8))
    cv2.imwrite(str(folder / "masks/train/2.png"), np.full((80, 112), 77, np.uint8))
    (folder / "masks/train/3.png").write_bytes(b"not a picture")
    (folder / "masks/train/4.png").unlink()
    dataset = open_dataset(folder, "train")
    expected = ["cannot decode the photo", "expected the same size", "holds the value 77", "cannot decode the mask"]
    for index, words in enumerate(expected):
        with pytest.raises(DatasetError, match=words):
            dataset.load(index)
    assert len(dataset) == 5
    assert dataset.skipped == ("4.jpg: no mask masks/train/4.png",)


def _claim_size(picture: bytes, side: int) -> bytes:
    """A JPEG or PNG whose header says `side` x `side`, sound otherwise."""
    if picture.startswith(b"\xff\xd8"):
        place = picture.index(b"\xff\xc0") + 5  # of the height in the frame's header
        return picture[:place] + struct.pack(">HH", side, side) + picture[place + 4 :]
    header = b"IHDR" + struct.pack(">II", side, side) + picture[24:29]
    return picture[:12] + header + struct.pack(">I", zlib.crc32(header)) + picture[33:]


def test_headers_that_claim_too_much_are_files_that_cannot_be_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenCV and Pillow have errors of their own for them, of no kind that other damage raises."""
    folder = write_index_masks(tmp_path / "shapes")
    photo, tail, mask = (folder / name for name in ("images/train/0.jpg", "images/train/1.jpg", "masks/train/2.png"))
    photo.write_bytes(_claim_size(photo.read_bytes(), 65500))
    tail.write_bytes(_claim_size(tail.read_bytes(), 65500) + bytes(64))  # its end has Pillow asked first
    mask.write_bytes(_claim_size(mask.read_bytes(), 60000))
    dataset = open_dataset(folder, "train")
    for index, words in enumerate((r"photo .*0\.jpg", r"photo .*1\.jpg", r"mask .*2\.png")):
        with pytest.raises(DatasetError, match=f"cannot decode the {words}"):
            dataset.load(index)
    crops = CropDataset([dataset], [1.0], AugmentOptions(64, 96), seed=0)
    batch = collate([crops[index] for index in range(12)])
    assert batch.skipped == sum(line.startswith("skipped: cannot decode") for line in caplog.messages) > 0


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "expected JSON"), ('{"0": "a"}', "holds {\"0\": \"a\"}, expected a list of names"), ("[]", "list of names"), ("[1]", "has 1 as class 0"), ('["a", "A"]', "'A' twice, as classes 0 and 1"),
     ('["|"]', "classes.json: the category '|' has no word"), (json.dumps(["a"] * 256), "256 names, at most 255")],
)  # fmt: skip
def test_class_lists_that_are_none(tmp_path: Path, content: str, words: str) -> None:
    folder = write_index_masks(tmp_path / "shapes")
    (folder / "classes.json").write_text(content)
    with pytest.raises(DatasetError, match=words):
        open_dataset(folder, "train")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"categories": [{"id": index, "name": "cat"} for index in range(256)]}, "256 names, at most 255 fit"),
        ({"categories": [{"id": 17, "name": ""}]}, "the category '' has no word"),
        ({"categories": [{"id": 17, "name": "-merged"}]}, "the category '-merged' has no word"),
        ({"categories": [{"id": 17, "name": 5}]}, "has 5 as the name of a category"),
        ({"annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": [[]]}]}, "is not COCO panoptic"),
        ({"images": None}, "is not COCO panoptic"),
    ],
)
def test_panoptic_annotations_that_are_none(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    folder = write_coco_panoptic(tmp_path / "coco")
    path = folder / "annotations/panoptic_train2017.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(DatasetError, match=words) as raised:
        open_dataset(folder, "train")
    assert "panoptic_train2017.json" in str(raised.value)


def test_as_many_categories_as_fit_a_mask(tmp_path: Path) -> None:
    folder = write_coco_panoptic(tmp_path / "coco")
    path = folder / "annotations/panoptic_train2017.json"
    document = json.loads(path.read_text())
    more = [{"id": 1000 + index, "name": "cat"} for index in range(253)]
    path.write_text(json.dumps(document | {"categories": [*more, *document["categories"]]}))
    assert set(np.unique(open_dataset(folder, "train").load(0).labels)) == {253, 254, 255}


def test_a_folder_of_no_known_layout(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read as a data set"):
        open_dataset(tmp_path, "train")
    with pytest.raises(DatasetError, match="no folder"):
        open_dataset(tmp_path / "nothing", "train")


def test_unreadable_files_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_index_masks(tmp_path / "shapes")
    for index in range(3):
        (folder / f"images/train/{index}.jpg").write_bytes(b"broken")
    crops = CropDataset([open_dataset(folder, "train")], [1.0], AugmentOptions(64, 96), seed=0)
    batch = collate([crops[index] for index in range(12)])
    assert batch.images.shape == (12, 3, 64, 64)
    assert batch.skipped == sum("cannot decode the photo" in line for line in caplog.messages) > 0


def test_data_without_a_readable_file_is_given_up(tmp_path: Path) -> None:
    folder = write_index_masks(tmp_path / "shapes")
    opened = open_dataset(folder, "train")
    for path in (folder / "images/train").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DatasetError, match="no photo and mask can be used"):
        open_dataset(folder, "train")
    with pytest.raises(DatasetError, match="20 files in a row"):
        CropDataset([opened], [1.0], AugmentOptions(64, 96), seed=0)[0]


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    crop=st.sampled_from([32, 64, 96]),
    seed=st.integers(0, 2**31),
)
def test_crops_keep_photo_and_labels_together(height: int, width: int, crop: int, seed: int) -> None:
    """Pixels carry their class as a colour; away from edges that resizing blurs, both must tell the same."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 1
    image = np.array([(10, 10, 10), (240, 240, 240)], np.uint8)[labels]
    options = AugmentOptions(crop, 128, colour=0.0, hue=0)
    result = random_crop(TrainingSample(image, labels, "x"), options, rng)
    assert result.image.shape == (crop, crop, 3)
    assert result.labels.shape == (crop, crop)
    dark, bright = result.image[..., 0] < 20, result.image[..., 0] > 230
    assert (result.labels[dark] == 0).all()
    assert (result.labels[bright] == 1).all()
    assert set(np.unique(result.labels)) <= {0, 1, 255}


def test_a_digest_tells_datasets_apart_but_not_where_they_lie(tmp_path: Path) -> None:
    dataset = open_dataset(write_index_masks(tmp_path / "shapes"), "train")
    assert open_dataset(write_index_masks(tmp_path / "elsewhere" / "shapes"), "train").digest == dataset.digest
    hidden = hide(dataset, Split(("grass",), {}))
    reserved = hide(dataset, Split(("boat",), {"grass": "lawn"}))
    others = [
        replace(dataset, name="other"),
        replace(dataset, classes=tuple(map(category_names, ("grass", "sky", "tree")))),
        replace(dataset, entries=dataset.entries[:-1]),
        replace(dataset, entries=(*dataset.entries[:-1], replace(dataset.entries[-1], image=Path("new.jpg")))),
        hidden,
        reserved,
    ]
    assert len({dataset.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_the_same_number_gives_the_same_crop(tmp_path: Path) -> None:
    dataset = open_dataset(write_index_masks(tmp_path / "shapes"), "train")
    first = CropDataset([dataset], [1.0], AugmentOptions(64, 96), seed=3)[17]
    again = CropDataset([dataset], [1.0], AugmentOptions(64, 96), seed=3)[17]
    other = CropDataset([dataset], [1.0], AugmentOptions(64, 96), seed=4)[17]
    assert np.array_equal(first.sample.image, again.sample.image)
    assert not np.array_equal(first.sample.image, other.sample.image)


def test_segments_are_the_classes_present() -> None:
    image, labels = np.zeros((2, 3, 3), np.uint8), np.array([[7, 7, 255], [2, 255, 2]], np.uint8)
    target = to_target(TrainingSample(image, labels, "x"))
    assert target.classes.tolist() == [2, 7]
    assert target.segments.tolist() == [[1, 1, -1], [0, -1, 0]]
    known = np.array([[True, False, False], [False, True, False]])  # a labelled pixel stays what its label says
    assert to_target(TrainingSample(image, labels, "x", known)).segments.tolist() == [[1, 1, -1], [0, -2, 0]]


def _with_background(folder: Path) -> Path:
    """The shapes, and for the first photo a map that calls the left half background."""
    write_index_masks(folder)
    (folder / "background/train").mkdir(parents=True)
    known = np.zeros((80, 112), np.uint8)
    known[:, :56] = 255
    Image.fromarray(known).convert("1").save(folder / "background/train/0.png")
    return folder


def test_background_is_told_from_not_labelled(tmp_path: Path) -> None:
    dataset = open_dataset(_with_background(tmp_path / "shapes"), "train")
    first, second = dataset.load(0), dataset.load(1)
    assert second.background is None
    assert first.background is not None
    # The top strip has no label; the rest of the left half has one, whatever the map says.
    assert first.background[:3, :56].all()
    assert not first.background[3:].any()
    assert not first.background[:, 56:].any()
    assert dataset.digest != open_dataset(write_index_masks(tmp_path / "other" / "shapes"), "train").digest


@pytest.mark.parametrize(("name", "content"), [("decode", b"broken"), ("shape", None)])
def test_background_maps_that_are_none(tmp_path: Path, name: str, content: bytes | None) -> None:
    folder = _with_background(tmp_path / "shapes")
    path = folder / "background/train/0.png"
    if content is None:
        Image.new("1", (5, 5)).save(path)
    else:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{name}.*0\.png|0\.png.*{name}"):
        open_dataset(folder, "train").load(0)


def test_crops_keep_background_and_labels_together() -> None:
    rng = np.random.default_rng(0)
    labels = np.full((90, 120), 255, np.uint8)
    labels[:, 60:] = 1
    sample = TrainingSample(np.zeros((90, 120, 3), np.uint8), labels, "x", labels == 255)
    for _ in range(20):
        crop = random_crop(sample, AugmentOptions(96, 128, colour=0.0, hue=0), rng)
        assert crop.background is not None
        outside = (crop.labels == 255) & ~crop.background  # padding, which nobody labelled
        assert np.array_equal(outside, (crop.image > 0).any(-1))
        assert not (crop.background & (crop.labels == 1)).any()


def test_mean_iou_by_hand() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 255, 255])
    predicted = np.array([0, 0, 1, 9, 1, 0, 0, 1])
    counts = confusion(truth, predicted, 3)
    assert counts.tolist() == [[2, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]
    result = intersection_over_union(counts)
    # Class 0: 2 right, 4 true, 3 claimed; class 1: 1 right, 2 true, 2 claimed; class 2 occurs nowhere.
    assert result.per_class[:2] == pytest.approx([2 / 5, 1 / 3])
    assert np.isnan(result.per_class[2])
    assert result.mean == pytest.approx((2 / 5 + 1 / 3) / 2)
    assert result.pixel_accuracy == pytest.approx(3 / 6)


def test_names_file_is_consistent() -> None:
    known = json.loads((Path(__file__).parents[2] / "data" / "names" / "names.json").read_text(encoding="utf-8"))
    for name, entry in known.items():
        assert set(entry) <= {"synonyms", "related"}
        assert name not in entry.get("synonyms", [])
        assert name not in entry.get("related", [])
