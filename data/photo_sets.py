"""All readers of photo sets, each for a layout as it is published, with its official rule of what counts.

A new one is a module in `readers/` and one entry in `READERS`. Paths are those of the validation split.

set               what lies in the folder                                                not counted
index-masks       classes.json, images/val, masks/val                                    255
coco-panoptic     annotations/panoptic_val2017{.json,/}, val2017                         crowds, no segment
ade20k-150        images/validation, annotations/validation (ADEChallengeData2016)       0; class 1 is the first
ade20k-847        index_ade20k.mat, images/ADE/validation/**/*_seg.png (ADE20K_2021)     see ade20k.py
voc-20            ImageSets/Segmentation/val.txt, JPEGImages, SegmentationClass          255 (borders), background
voc-21            the same                                                               255 (borders)
coco-stuff        images/val2017, annotations/val2017/*.png (COCO-Stuff 164k)            255
coco-object       the same; all stuff is the background, class 0                         nothing
context-59        trainval/*.mat + labels.txt, or 59_context_labels + 59_labels.txt      every other class, 0
context-60        the same, or VOC2010/SegmentationClassContext; the background is 0     nothing
context-459       trainval/*.mat + labels.txt, with VOC2010                              0
cityscapes        leftImg8bit/val, gtFine/val (labelIds or labelTrainIds)                what has no training id
"""

from __future__ import annotations

from pathlib import Path

from ..bundle.errors import DatasetError, UsageError, note_once
from .labelled import PhotoSet
from .readers.ade20k import ADE20K_150, ADE20K_847
from .readers.cityscapes import CITYSCAPES
from .readers.coco_panoptic import COCO_PANOPTIC
from .readers.coco_stuff import COCO_OBJECT, COCO_STUFF
from .readers.index_masks import INDEX_MASKS
from .readers.other_formats import convertible, other_format
from .readers.pascal import CONTEXT_59, CONTEXT_60, CONTEXT_459, VOC_20, VOC_21
from .readers.reader import PhotoReader, Split
from .validate import require_labels

READERS: tuple[PhotoReader, ...] = (  # the first that recognises a folder reads it
    INDEX_MASKS,
    COCO_PANOPTIC,
    ADE20K_150,
    ADE20K_847,
    CITYSCAPES,
    COCO_STUFF,
    COCO_OBJECT,
    CONTEXT_59,
    CONTEXT_60,
    CONTEXT_459,
    VOC_20,
    VOC_21,
)


def open_photos(given: str, split: Split = "val") -> PhotoSet:
    """Open `FOLDER`, or `SET:FOLDER` where a folder holds several sets.

    Raises `UsageError` for a set that has to be named, `DatasetError` for a folder without labelled photos.
    """
    readers, folder = find_readers(given, split)
    if len(readers) > 1:
        either = " or ".join(f"{reader.name}:{folder}" for reader in readers)
        names = " and ".join(reader.name for reader in readers)
        raise UsageError(f"{folder} holds {names}, expected one of them: --data {either}")
    return read_with(readers[0], folder, split)


def find_readers(given: str, split: Split) -> tuple[list[PhotoReader], Path]:
    """The readers of `FOLDER` or `SET:FOLDER`, more than one where they share a layout, and the folder.

    Raises `DatasetError` for a folder of no known layout.
    """
    name, colon, rest = given.partition(":")
    if colon and (named := [reader for reader in READERS if reader.name == name]):
        return named, Path(rest)
    folder = Path(given)
    if not folder.is_dir():
        raise DatasetError(f"no folder {given}; expected a data set, as FOLDER or SET:FOLDER ({_names()})")
    for reader in READERS:
        for sign in reader.signs:
            if (folder / sign.format(split=split)).exists():
                return [other for other in READERS if sign in other.signs], folder
    found = other_format(folder)
    what = f"it looks like {found}" if found else "it is no data set that is known"
    expected = "classes.json with images/ and masks/, or the layout of a published set"
    if found and convertible(found):
        raise DatasetError(f"{folder}: {what}, which ovs-data converts: ovs-data convert {folder} -o NEW_FOLDER")
    raise DatasetError(f"{folder} cannot be read as a data set: {what}; expected {expected} ({_names()})")


def read_with(reader: PhotoReader, folder: Path, split: Split) -> PhotoSet:
    """The photos of a split; raises `DatasetError` where there is none with a mask, or none with a label."""
    photos = reader.open(folder, split)
    if not photos.files:
        why = f"; the first: {photos.skipped[0]}" if photos.skipped else ""
        raise DatasetError(
            f"{folder} holds no photo with a mask in its {split} split, read as {reader.name} ({len(photos.skipped)} "
            f"skipped{why}); expected the layout in which it is published"
        )
    if (doubt := require_labels(photos)) is not None:
        note_once(doubt)  # the splits of a set say the same
    return photos


def _names() -> str:
    return ", ".join(reader.name for reader in READERS)
