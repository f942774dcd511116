"""Datasets whose unlabelled pixels have labels by a model, and photos without any mask."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...bundle.errors import DatasetError
from ...bundle.image_files import is_image_name
from ...bundle.metrics import IGNORE
from ...data.datasets import SegmentationDataset, TrainingSample
from ...data.images import read_stored
from ...data.labelled import LabelledFile
from ...data.names.category_names import CategoryNames

BACKGROUND_MARK = 254  # in a map: none of the dataset's own classes, and it is not known what else


@dataclass(frozen=True)
class UnlabelledPhotos(SegmentationDataset):
    """Photos without masks: no pixel is labelled, and there are no classes."""

    def load(self, index: int) -> TrainingSample:
        """The photo; raises `DatasetError` for one that cannot be read."""
        image = read_stored(self.entries[index].image)
        return TrainingSample(image, np.full(image.shape[:2], IGNORE, np.uint8), self.entries[index].image.name)


def open_photos(folder: Path) -> UnlabelledPhotos:
    """All photos of a folder; raises `DatasetError` where there are none."""
    if not folder.is_dir():
        raise DatasetError(f"no folder {folder}; expected one with photos")
    paths = sorted(path for path in folder.iterdir() if is_image_name(path) and path.is_file())
    entries = tuple(LabelledFile(path, None) for path in paths)
    if not entries:
        raise DatasetError(f"{folder} holds no photo; expected picture files in it, not in folders below")
    return UnlabelledPhotos(folder.name, (), entries, ())


@dataclass(frozen=True)
class PseudoLabelled(SegmentationDataset):
    """A dataset with further classes behind its own, which a model found in its photos.

    Labels of the dataset itself are never changed. Pixels that it calls background get further classes only.
    """

    base: SegmentationDataset | None = None  # whose photos and labels these are
    own: int = 0  # the first so many classes are the dataset's own
    maps: tuple[npt.NDArray[np.uint8], ...] = ()  # per photo (h, w), smaller than it: class, `BACKGROUND_MARK` or 255
    origin: str = ""  # digest of what made the maps

    @property
    def digest(self) -> str:
        """As of every dataset; another one for other maps."""
        assert self.base is not None
        return hashlib.sha256(json.dumps([self.base.digest, self.origin]).encode()).hexdigest()

    def load(self, index: int) -> TrainingSample:
        """The photo with the dataset's labels, and the model's where it has none."""
        assert self.base is not None
        return fill(self.base.load(index), self.maps[index], self.own)


def fill(sample: TrainingSample, marks: npt.NDArray[np.uint8], own: int) -> TrainingSample:
    """The sample with the labels of a map (h, w) where it has none; see `PseudoLabelled`."""
    height, width = sample.labels.shape
    found = cv2.resize(marks, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    empty = sample.labels == IGNORE
    background = np.zeros_like(empty) if sample.background is None else sample.background
    labels = sample.labels.copy()
    named = empty & (found < BACKGROUND_MARK) & (~background | (found >= own))
    labels[named] = found[named]
    background = (background | (empty & (found == BACKGROUND_MARK))) & ~named
    return TrainingSample(sample.image, labels, sample.name, background)


def with_pseudo_labels(
    dataset: SegmentationDataset,
    others: tuple[CategoryNames, ...],
    maps: tuple[npt.NDArray[np.uint8], ...],
    origin: str,
) -> PseudoLabelled:
    """`dataset` with the classes `others` behind its own, and the maps that a model made of its photos."""
    given = {field.name: getattr(dataset, field.name) for field in fields(SegmentationDataset)}
    given["classes"] = (*dataset.classes, *others)
    return PseudoLabelled(**given, base=dataset, own=len(dataset.classes), maps=maps, origin=origin)


def own_classes(dataset: SegmentationDataset) -> int:
    """How many of a dataset's classes are its own; the others were found by a model."""
    return dataset.own if isinstance(dataset, PseudoLabelled) else len(dataset.classes)
