"""ADE20K: the 150 classes of its scene parsing challenge, and the full set.

The full set has masks of 3688 objects. Those are evaluated that occur as whole objects, not only as parts, in both the
training and the validation photos, by the index in the folder: the rule behind the 847 classes that papers report. A
warning tells where the rule gives another number. A file `classes.json` in the folder, a list of the objects' names as
the index has them, replaces the rule by the list of a paper.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.errors import DatasetError
from ..folders import pair
from ..labelled import VOID, LabelledFile, PhotoSet, Truth
from ..mask_files import decode_mask, look_up
from ..masks import IndexMask
from ..names.category_names import CategoryNames, category_names
from ..names.synonyms import shipped_senses
from ..text_files import read_json
from .matlab import read_mat
from .reader import PhotoReader, Split

CHALLENGE = 150
FULL = 847  # classes that papers report on
INDEX = "index_ade20k.mat"  # beside it lies the same as a pickle, which is not read: pickles can run code

_SPLITS = {"train": "training", "val": "validation"}

_log = logging.getLogger("ovs_edge.data")


def ade20k_150(folder: Path, split: Split) -> PhotoSet:
    """`ADEChallengeData2016`: value 0 is "other", so class 1 is the first. Raises `DatasetError`."""
    part = _SPLITS[split]
    photos = sorted((folder / "images" / part).glob("*.jpg"))
    files, skipped = pair(photos, lambda path: folder / "annotations" / part / f"{path.stem}.png")
    classes = tuple(map(category_names, shipped_senses()["sets"]["ade20k_150"]))
    table = {0: VOID, **{index + 1: index for index in range(CHALLENGE)}}
    return PhotoSet("ade20k-150", classes, files, IndexMask(tuple(table.items()), "0 to 150"), skipped)


@dataclass(frozen=True)
class ObjectMask:
    """Reads `_seg.png`: the object's number, from 1, is G + 256 * (R / 10); B tells instances apart."""

    classes: tuple[tuple[int, int], ...]  # object's number -> class index
    objects: int  # how many there are

    def __call__(self, file: LabelledFile) -> Truth:
        """Objects that are not evaluated, and 0, do not count. Raises `DatasetError` for a number beyond the index."""
        assert file.mask is not None
        mask = decode_mask(file.mask)
        if mask.ndim != 3 or mask.shape[2] < 3:
            raise DatasetError(f"{file.mask} is not an RGB image, expected object numbers in its colours")
        numbers = mask[..., 0].astype(np.int32) // 10 * 256 + mask[..., 1]
        table = {number: VOID for number in range(self.objects + 1)} | dict(self.classes)
        return Truth(look_up(numbers, table, f"{file.mask}", f"objects 0 to {self.objects}"))


def ade20k_847(folder: Path, split: Split) -> PhotoSet:
    """`ADE20K_2021_17_01`: photos and `_seg.png` side by side, in folders by scene.

    Warns where the classes are not the 847 whose name the set keeps. Raises `DatasetError`.
    """
    index = _index(folder / INDEX)
    objects = [str(name) for name in index["objectnames"]]
    kept = _listed(folder, objects) if (folder / "classes.json").is_file() else _seen_in_both(index)
    if len(kept) != FULL:
        _log.warning(
            "ade20k-847: %d classes are evaluated, not the %d of papers, with whose figures these cannot be compared; "
            "classes.json in %s may list those",
            len(kept), FULL, folder,
        )  # fmt: skip
    photos = sorted(
        path for path in (folder / "images" / "ADE" / _SPLITS[split]).glob("**/*.jpg") if not path.name.startswith(".")
    )
    files, skipped = pair(photos, lambda path: path.with_name(f"{path.stem}_seg.png"))
    numbers = tuple((number + 1, place) for place, number in enumerate(kept))
    classes = tuple(_names(objects[number]) for number in kept)
    return PhotoSet("ade20k-847", classes, files, ObjectMask(numbers, len(objects)), skipped)


def _names(name: str) -> CategoryNames:
    """ "door, double door" -> its names; an object's own words, which no list of ours knows."""
    return CategoryNames(tuple(part.strip() for part in name.split(",") if part.strip()), ())


def _index(path: Path) -> dict[str, Any]:
    variables = read_mat(path)
    try:
        index = variables["index"]
        return {key: index[key].item() for key in ("objectnames", "folder", "objectPresence", "objectIsPart")}
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is not the index of ADE20K ({error!r}); copy the data set again") from error


def _seen_in_both(index: dict[str, Any]) -> list[int]:
    """Objects that are whole objects in a training and in a validation photo, in the index's order."""
    folders = np.array([str(folder) for folder in index["folder"]])
    presence = index["objectPresence"]  # (objects, photos), dense or sparse: so many in the photo
    whole = presence > index["objectIsPart"]
    whole = whole.toarray() if hasattr(whole, "toarray") else np.asarray(whole)
    if whole.ndim != 2 or whole.shape[1] != len(folders):
        raise DatasetError(
            f"the index of ADE20K counts {list(whole.shape)} objects and photos; copy the data set again"
        )
    sides = [np.char.find(folders, split) >= 0 for split in ("/training", "/validation")]
    return np.flatnonzero(np.all([whole[:, side].any(1) for side in sides], 0)).tolist()


def _listed(folder: Path, objects: list[str]) -> list[int]:
    path = folder / "classes.json"
    wanted = read_json(path)
    number = {name: place for place, name in enumerate(objects)}
    unknown = [name for name in wanted if name not in number] if isinstance(wanted, list) else wanted
    if unknown or not wanted:
        raise DatasetError(f"{path} names {str(unknown)[:60]}, expected objects of {INDEX}, by their names there")
    return [number[name] for name in wanted]


ADE20K_150 = PhotoReader("ade20k-150", ("annotations/validation", "annotations/training"), ade20k_150)
ADE20K_847 = PhotoReader("ade20k-847", (INDEX,), ade20k_847)
