"""Any data set that training and benchmarks read themselves, as a source of a conversion."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ...bundle.errors import DatasetError
from ..labelled import VOID, LabelledFile, MaskReader, load
from ..names.category_names import CategoryNames
from ..photo_sets import find_readers, read_with
from ..readers.reader import Split
from .label_format import Annotated, FormatSet, LabelFormat, Painted, ReadOptions, Size, merged, unique_names


class Published(LabelFormat):
    """Index masks, COCO panoptic, ADE20K, Pascal VOC and Context, Cityscapes."""

    name = "published"
    title = "a data set that is read as it is"
    upright = False

    def recognises(self, folder: Path) -> bool:
        """See `LabelFormat`."""
        return self._splits(folder) != []

    @staticmethod
    def _splits(folder: Path) -> list[Split]:
        found: list[Split] = []
        splits: tuple[Split, ...] = ("train", "val")
        for split in splits:
            try:
                find_readers(str(folder), split)
            except DatasetError:
                continue
            found.append(split)
        return found

    def read(self, folder: Path, options: ReadOptions) -> FormatSet:
        """See `LabelFormat`."""
        photos: list[Annotated] = []
        skipped: list[str] = []
        names: tuple[CategoryNames, ...] = ()
        problem: DatasetError | None = None
        for split in self._splits(folder):
            readers, place = find_readers(str(folder), split)
            try:
                photo_set = read_with(readers[0], place, split)
            except DatasetError as error:
                problem = error
                continue
            names = photo_set.classes
            skipped += [f"{split}: {reason}" for reason in photo_set.skipped]
            _, indices = merged([_entry(entry) for entry in names], options)
            images = [file.image for file in photo_set.files]
            for file, name in zip(photo_set.files, unique_names(images, place), strict=True):
                photos.append(Annotated(file.image, name, partial(_paint, file, photo_set.read, indices), split))
        if not photos and problem is not None:
            raise problem
        classes, _ = merged([_entry(entry) for entry in names], options)
        return FormatSet(classes, tuple(photos), tuple(skipped))


def _entry(category: CategoryNames) -> str:
    return category.names[0]


def _paint(file: LabelledFile, read: MaskReader, indices: list[int], size: Size) -> Painted:
    truth = load(file, read).truth
    if truth.labels.shape != size:
        raise DatasetError(
            f"{file.mask} is {truth.labels.shape[1]}x{truth.labels.shape[0]}, its photo {size[1]}x{size[0]}"
        )
    table = np.array([*indices, VOID], np.int32)  # VOID, -1, is the last
    return Painted(table[truth.labels], truth.background, truth.ids)
