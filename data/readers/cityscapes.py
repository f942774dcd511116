"""Cityscapes: fine labels, of which 19 classes are evaluated.

folder/
  leftImg8bit/{train,val}/CITY/*_leftImg8bit.png
  gtFine/{train,val}/CITY/*_gtFine_labelIds.png     or labelTrainIds
"""

from __future__ import annotations

from pathlib import Path

from ...bundle.metrics import IGNORE
from ..folders import pair
from ..labelled import VOID, PhotoSet
from ..masks import IndexMask
from ..names.category_names import category_names
from ..names.synonyms import shipped_senses
from .reader import PhotoReader, Split

# The 19 evaluated classes: labelId -> trainId. All other ids, 255 (licence plates) among them, do not count.
_TRAIN_IDS = dict(
    zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), range(19), strict=True)
)
_IDS = 34  # labelIds 0..33


def open_cityscapes(folder: Path, split: Split) -> PhotoSet:
    """The photos of a split; what has no training id does not count. Raises `DatasetError`."""
    photos = sorted((folder / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
    labels = folder / "gtFine" / split
    train_ids = not any(labels.glob("*/*_gtFine_labelIds.png"))
    kind = "labelTrainIds" if train_ids else "labelIds"
    if train_ids:
        table = {IGNORE: VOID, **{index: index for index in range(19)}}
    else:
        void = {index: VOID for index in (*range(_IDS), IGNORE)}
        table = {**void, **_TRAIN_IDS}
    files, skipped = pair(
        photos, lambda path: labels / path.parent.name / path.name.replace("_leftImg8bit", f"_gtFine_{kind}")
    )
    classes = tuple(map(category_names, shipped_senses()["sets"]["cityscapes"]))
    read = IndexMask(tuple(table.items()), f"Cityscapes' {kind}")
    return PhotoSet("cityscapes", classes, files, read, skipped)


CITYSCAPES = PhotoReader("cityscapes", ("gtFine",), open_cityscapes)
