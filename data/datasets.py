"""Photo sets as training reads them: 8-bit labels, and classes that a split may hide.

Reading needs no torch. A file that cannot be used is skipped, counted and named, so that no long run dies of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..bundle.errors import DatasetError
from ..bundle.metrics import IGNORE
from .labelled import VOID, LabelledFile, MaskReader, PhotoSet, Truth, load
from .names.category_names import CategoryNames
from .photo_sets import find_readers, read_with
from .readers.reader import Split
from .validate import SetReport, inspect


@dataclass(frozen=True)
class TrainingSample:
    """One photo with its classes."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR
    labels: npt.NDArray[np.uint8]  # (H, W) class index, 255 = not labelled
    name: str
    background: npt.NDArray[np.bool_] | None = None  # (H, W) True: none of the classes; None: nothing is known of that


def _unread(file: LabelledFile) -> Truth:
    raise DatasetError(f"{file.mask}: the dataset was made without a reader")


@dataclass(frozen=True)
class SegmentationDataset:
    """Files of one split and the names of its classes."""

    name: str
    classes: tuple[CategoryNames, ...]
    entries: tuple[LabelledFile, ...]
    skipped: tuple[str, ...]  # why files were left out when the folder was listed
    relabel: tuple[int, ...] = ()  # stored class index -> class index, 255 = not labelled; empty: as stored
    read: MaskReader = _unread
    layout: str = "index-masks"  # name of the reader

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def meaning(self) -> list[str | int]:
        """What stored values mean as labels, beyond the files: part of the key of whatever is cached of the labels."""
        own = self.layout in ("index-masks", "coco-panoptic")
        return [*([] if own else [self.layout]), *self.relabel]

    @property
    def digest(self) -> str:
        """Hexadecimal; differs when the classes as training knows them or the photos by name do, wherever they lie."""
        classes = [[category.names, category.related, category.diverse] for category in self.classes]
        files = [[entry.image.name, _name(entry.mask)] for entry in self.entries]
        maps = sum(entry.background is not None for entry in self.entries)
        content = [self.name, classes, len(files), files, self.relabel, *([maps] if maps else [])]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def report(self, on_photo: Callable[[], None] = lambda: None) -> SetReport:
        """What all files hold, in the classes as stored; reads every photo."""
        return inspect(self.entries, self.read, len(self.relabel or self.classes), on_photo)

    def absent(self, report: SetReport) -> list[int]:
        """Classes of which no file holds a pixel."""
        pixels = report.pixels
        if self.relabel:
            kept = np.array([index != IGNORE for index in self.relabel])
            pixels = np.zeros(len(self.classes), np.int64)
            np.add.at(pixels, np.array(self.relabel)[kept], report.pixels[kept])
        return np.flatnonzero(pixels == 0).tolist()

    def load(self, index: int) -> TrainingSample:
        """Read one photo and its mask; raises `DatasetError` naming the file."""
        entry = self.entries[index]
        photo = load(entry, self.read)
        truth = photo.truth
        labels = np.where(truth.labels == VOID, IGNORE, truth.labels).astype(np.uint8)
        if self.relabel:
            table = np.full(256, IGNORE, np.uint8)
            table[: len(self.relabel)] = self.relabel
            labels = table[labels]
        return TrainingSample(photo.image, labels, entry.image.name, truth.background)


def open_dataset(folder: Path | str, split: Split) -> SegmentationDataset:
    """The split of a folder of any known layout; raises `DatasetError` when there is nothing to read.

    Of sets that share a layout the first is taken (`voc-20`, `context-59`); `SET:FOLDER` names another.
    """
    readers, path = find_readers(str(folder), split)
    return training_set(read_with(readers[0], path, split), readers[0].name)


def training_set(photos: PhotoSet, layout: str) -> SegmentationDataset:
    """A photo set for training; raises `DatasetError` for more classes than an 8-bit mask can tell apart."""
    if len(photos.classes) > IGNORE:
        raise DatasetError(f"{photos.name} has {len(photos.classes)} classes, training takes at most {IGNORE}")
    return SegmentationDataset(
        photos.name, photos.classes, photos.files, photos.skipped, read=photos.read, layout=layout
    )


def _name(path: Path | None) -> str:
    return "" if path is None else path.name
