"""Labelled photos are read as training and benchmarks read them, and what they cannot mean is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.calibration.labelled import LabelledPhotos
from ovs_edge.models import default_bundle
from ovs_edge.runtime.segmenter import Segmenter

GREEN, BLUE = (40, 160, 40), (60, 120, 220)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """The embedded model; every pixel gets a class."""
    return Segmenter.load(default_bundle(), background="none", threshold=0.0, task="semantic")


def _folder(path: Path, mask: np.ndarray, orientation: int = 1) -> Path:
    """One photo, sky over grass as it is shown; stored so that `orientation` turns it upright, the mask as stored."""
    shown = np.zeros((64, 96, 3), np.uint8)
    shown[:32], shown[32:] = BLUE, GREEN
    stored = {1: shown, 3: shown[::-1, ::-1], 6: np.rot90(shown, 1), 8: np.rot90(shown, -1)}[orientation]
    for part in ("images", "masks"):
        (path / part / "val").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(path / "images" / "val" / "a.jpg", quality=95, exif=exif)
    Image.fromarray(mask).save(path / "masks" / "val" / "a.png")
    (path / "classes.json").write_text(json.dumps(["grass", "sky"]))
    return path


def _truth(orientation: int) -> np.ndarray:
    """The mask as it is stored beside such a photo: grass 0, sky 1."""
    shown = np.zeros((64, 96), np.uint8)
    shown[:32] = 1
    turned = {1: shown, 3: shown[::-1, ::-1], 6: np.rot90(shown, 1), 8: np.rot90(shown, -1)}[orientation]
    return np.ascontiguousarray(turned)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photo_and_mask_are_compared_as_they_are_stored(tmp_path: Path, segmenter: Segmenter, orientation: int) -> None:
    """The mean IoU is that of the stored photo with the stored mask, whatever the EXIF orientation says."""
    photos = LabelledPhotos(_folder(tmp_path / "set", _truth(orientation), orientation))
    calls: list[int] = []
    found = photos.mean_iou(segmenter, lambda: calls.append(1))
    stored = np.asarray(Image.open(tmp_path / "set" / "images" / "val" / "a.jpg").convert("RGB"))
    labels = segmenter.predict(np.ascontiguousarray(stored[..., ::-1])).labels
    truth = _truth(orientation)
    ious = [((labels == k) & (truth == k)).sum() / ((labels == k) | (truth == k)).sum() for k in (0, 1)]
    assert found == pytest.approx(np.mean(ious))
    assert (photos.name, len(photos), len(calls)) == ("set", 1, 1)


@pytest.mark.parametrize(
    ("value", "kind", "says"), [(7, np.uint8, "7"), (300, np.uint16, "300"), (256, np.uint16, "256")]
)
def test_a_class_index_outside_the_list_is_refused(
    tmp_path: Path, segmenter: Segmenter, value: int, kind: type[np.generic], says: str
) -> None:
    """Also of 16 bits: 256 is not class 0."""
    mask = _truth(1).astype(kind)
    mask[3, 5] = value
    folder = _folder(tmp_path / "set", mask)
    with pytest.raises(DatasetError, match=says):
        LabelledPhotos(folder).mean_iou(segmenter, lambda: None)


def test_sixteen_bits_are_as_good_as_eight(tmp_path: Path, segmenter: Segmenter) -> None:
    narrow = LabelledPhotos(_folder(tmp_path / "narrow", _truth(1)))
    wide = LabelledPhotos(_folder(tmp_path / "wide", _truth(1).astype(np.uint16)))
    assert narrow.mean_iou(segmenter, lambda: None) == wide.mean_iou(segmenter, lambda: None)


def test_a_folder_without_labelled_photos(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        LabelledPhotos(tmp_path)
