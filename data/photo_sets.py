"""Photo sets in the folders in which they are published, each with its official rule of what counts.

set               what lies in the folder                                                not counted
index-masks       classes.json, images/val, masks/val                                    255
coco-panoptic     annotations/panoptic_val2017{.json,/}, val2017                         crowds, no segment
ade20k-150        images/validation, annotations/validation (ADEChallengeData2016)       0; class 1 is the first
ade20k-847        index_ade20k.mat, images/ADE/validation/**/*_seg.png (ADE20K_2021)     see ade20k.py
voc-20            ImageSets/Segmentation/val.txt, JPEGImages, SegmentationClass          255 (borders), background
voc-21            the same                                                               255 (borders)
context-59        trainval/*.mat + labels.txt, or 59_context_labels + 59_labels.txt      every other class, 0
context-459       trainval/*.mat + labels.txt, with VOC2010                              0
cityscapes        leftImg8bit/val, gtFine/val (labelIds or labelTrainIds)                what has no training id
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bundle.errors import DatasetError, UsageError
from ..bundle.metrics import IGNORE
from .ade20k import ade20k_150, ade20k_847
from .datasets import SegmentationDataset, open_dataset
from .labelled import VOID, IndexMask, LabelledFile, LabelledPhotos, TrueSegment, Truth, pair, read_mask
from .names.category_names import category_names
from .names.synonyms import shipped_senses
from .pascal import context_59, context_459, voc_20, voc_21

# Cityscapes' 19 evaluated classes: labelId -> trainId. All other ids, 255 (licence plates) among them, do not count.
_CITYSCAPES_TRAIN_IDS = dict(
    zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), range(19), strict=True)
)
_CITYSCAPES_IDS = 34  # labelIds 0..33


@dataclass(frozen=True)
class CocoMask:
    """Reads COCO's panoptic masks: segment ids in the colours, R + 256 G + 65536 B, and their classes beside them."""

    def __call__(self, file: LabelledFile) -> Truth:
        """Raises `DatasetError` for a mask without colours."""
        mask = read_mask(file)
        if mask.ndim != 3 or mask.shape[2] < 3:
            raise DatasetError(f"{file.mask} is not an RGB image, expected segment ids in its colours")
        ids = mask[..., :3].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        segments = dict(file.segments)
        labels = np.full(ids.shape, VOID, np.int32)
        for key, segment in segments.items():
            if not segment.crowd:
                labels[ids == key] = segment.label
        return Truth(labels, ids, segments)


def _from_training(dataset: SegmentationDataset) -> LabelledPhotos:
    """Photos of a data set that training reads, too."""
    if dataset.things is None:
        table = {IGNORE: VOID, **{index: index for index in range(len(dataset.classes))}}
        files = tuple(LabelledFile(entry.image, entry.mask) for entry in dataset.entries)
        about = f"class indices 0 to {len(dataset.classes) - 1}, or 255"
        return LabelledPhotos(
            dataset.name, dataset.classes, files, IndexMask(tuple(table.items()), about), dataset.skipped
        )
    files = tuple(
        LabelledFile(
            entry.image,
            entry.mask,
            (
                *((key, TrueSegment(label)) for key, label in entry.segments.items()),
                *((key, TrueSegment(label, crowd=True)) for key, label in entry.crowds.items()),
            ),
        )
        for entry in dataset.entries
    )
    stuff = tuple(not thing for thing in dataset.things)
    return LabelledPhotos(dataset.name, dataset.classes, files, CocoMask(), dataset.skipped, stuff)


def cityscapes(folder: Path) -> LabelledPhotos:
    """The validation photos with fine labels; raises `DatasetError`."""
    photos = sorted((folder / "leftImg8bit" / "val").glob("*/*_leftImg8bit.png"))
    labels = folder / "gtFine" / "val"
    train_ids = not any(labels.glob("*/*_gtFine_labelIds.png"))
    kind = "labelTrainIds" if train_ids else "labelIds"
    if train_ids:
        table = {IGNORE: VOID, **{index: index for index in range(19)}}
    else:
        void = {index: VOID for index in (*range(_CITYSCAPES_IDS), IGNORE)}
        table = {**void, **_CITYSCAPES_TRAIN_IDS}
    files, skipped = pair(
        photos, lambda path: labels / path.parent.name / path.name.replace("_leftImg8bit", f"_gtFine_{kind}")
    )
    classes = tuple(map(category_names, shipped_senses()["sets"]["cityscapes"]))
    read = IndexMask(tuple(table.items()), f"Cityscapes' {kind}")
    return LabelledPhotos("cityscapes", classes, files, read, skipped)


def _known(folder: Path) -> LabelledPhotos:
    return _from_training(open_dataset(folder, "val"))


_Reader = Callable[[Path], LabelledPhotos]

PHOTO_SETS: dict[str, _Reader] = {
    "index-masks": _known,
    "coco-panoptic": _known,
    "ade20k-150": ade20k_150,
    "ade20k-847": ade20k_847,
    "voc-20": voc_20,
    "voc-21": voc_21,
    "context-59": context_59,
    "context-459": context_459,
    "cityscapes": cityscapes,
}

# How a folder is recognised. Two sets that share a folder have to be named.
_SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("classes.json", ("index-masks",)),
    ("annotations/panoptic_val2017.json", ("coco-panoptic",)),
    ("annotations/validation", ("ade20k-150",)),
    ("index_ade20k.mat", ("ade20k-847",)),
    ("gtFine", ("cityscapes",)),
    ("59_context_labels", ("context-59",)),
    ("trainval", ("context-59", "context-459")),
    ("SegmentationClass", ("voc-20", "voc-21")),
)


def open_photos(given: str) -> LabelledPhotos:
    """Open `FOLDER`, or `SET:FOLDER` where a folder holds several sets.

    Raises `UsageError` for a set that has to be named, `DatasetError` for a folder without photos to evaluate on.
    """
    name, colon, rest = given.partition(":")
    if colon and name in PHOTO_SETS:
        folder = Path(rest)
    else:
        folder = Path(given)
        if not folder.is_dir():
            raise DatasetError(f"no folder {given}; expected a data set, such as FOLDER or SET:FOLDER ({_names()})")
        name = _recognise(folder)
    photos = PHOTO_SETS[name](folder)
    if not photos.files:
        why = f"; the first: {photos.skipped[0]}" if photos.skipped else ""
        raise DatasetError(
            f"{folder} holds no photo with a mask to evaluate {name} on ({len(photos.skipped)} skipped{why}); expected "
            "the layout in which it is published"
        )
    return photos


def _recognise(folder: Path) -> str:
    for sign, sets in _SIGNS:
        if (folder / sign).exists():
            if len(sets) > 1:
                either = " or ".join(f"{name}:{folder}" for name in sets)
                raise UsageError(f"{folder} holds {' and '.join(sets)}, expected one of them: --data {either}")
            return sets[0]
    signs = ", ".join(sign for sign, _ in _SIGNS)
    raise DatasetError(f"{folder} is no data set that is known ({_names()}); expected one of: {signs}")


def _names() -> str:
    return ", ".join(PHOTO_SETS)
