"""VSPW (CVPR 2021) and VIPSeg (CVPR 2022), sequences in the folders in which they are published.

vspw      val.txt, data/VIDEO/origin/*.jpg, data/VIDEO/mask/*.png        0 ("others") and 255 do not count
vipseg    val.txt, imgs/VIDEO/*.jpg, panomasks/VIDEO/*.png of 16 bits    0 does not count

Both have the same 124 classes; a mask's class 1 is the first. VIPSeg's values from 125 on are class * 100 + instance.
VIPSeg at 720 pixels of height (VIPSeg_720P, with images/ in place of imgs/), on which its authors report, is read the
same way; frames of the original size are evaluated as they are.

VIPSeg's open-vocabulary split holds back twelve classes as novel. Their ids are taken as those of its
panoVIPSeg_categories.json, which count from 0, where they are: pillar, ice, grandstand, tyre, box, basket, trash can,
bathtub, fan, blackboard, printer, instrument. What else is a choice of this project: all 124 classes are asked for at
once, base is the 112 others, and a mean runs over the classes that occur in the truth.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.errors import DatasetError
from ...bundle.metrics import IGNORE
from ..labelled import VOID, CompositeNames, LabelledClip, LabelledFile, MaskReader, TrueSegment, Truth, VideoSet
from ..mask_files import index_values, look_up
from ..masks import IndexMask
from ..names.category_names import CategoryNames
from ..text_files import listed, read_json

CLASSES = 124
_INSTANCES = 100  # numbers of one class in VIPSeg's masks


@cache
def _known() -> dict[str, Any]:
    text = (files("ovs_edge.data") / "vspw_classes.json").read_text(encoding="utf-8")
    known: dict[str, Any] = json.loads(text)
    return known


def _classes() -> tuple[CategoryNames, ...]:
    return tuple(_named(entry["name"], tuple(entry["names"])) for entry in _known()["classes"])


def _named(category: str, names: tuple[str, ...]) -> CategoryNames:
    """`handrail_or_fence` is two things, whose names come first."""
    parts = category.count("_or_") + 1
    if parts == 1:
        return CategoryNames(names, ())
    return CompositeNames(names, (), label=" or ".join(names[:parts]), defining=parts)


def vspw(folder: Path) -> VideoSet:
    """VSPW's validation sequences; raises `DatasetError`."""
    _same_order(folder)
    table = {0: VOID, IGNORE: VOID, **{index + 1: index for index in range(CLASSES)}}
    read = IndexMask(tuple(table.items()), f"0 to {CLASSES}, or 255")
    names = listed(folder / "val.txt")
    parts = {name: (folder / "data" / name / "origin", folder / "data" / name / "mask") for name in names}
    return _videos("vspw", parts, read)


def vipseg(folder: Path) -> VideoSet:
    """VIPSeg's validation sequences; raises `DatasetError`."""
    images = folder / ("imgs" if (folder / "imgs").is_dir() else "images")
    stuff = tuple(not entry["thing"] for entry in _known()["classes"])
    lists = (folder / "val.txt", folder.parent / "val.txt")  # beside VIPSeg_720P, where the scripts leave it
    names = listed(next((path for path in lists if path.is_file()), lists[0]))
    parts = {name: (images / name, folder / "panomasks" / name) for name in names}
    return _videos("vipseg", parts, PanoMask(), stuff, tuple(_known()["novel"]))


def _same_order(folder: Path) -> None:
    """Compare our list with the one that lies in the folder, if there is one; raises `DatasetError`."""
    path = folder / "label_num_dic_final.json"
    if not path.is_file():
        return
    try:
        numbers = {name: int(number) for name, number in read_json(path).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DatasetError(f"cannot read {path} ({error}); copy it again") from error
    ours = {entry["name"]: index + 1 for index, entry in enumerate(_known()["classes"])}
    for name, number in numbers.items():
        if number and ours.get(name) != number:
            raise DatasetError(
                f"{path} says that {name} is {number}, expected {ours.get(name, 'no such class')}; is it VSPW with its "
                f"{CLASSES} classes?"
            )


@dataclass(frozen=True)
class PanoMask:
    """Reads VIPSeg's masks: 0, a class from 1 to 124, or class * 100 + instance."""

    def __call__(self, file: LabelledFile) -> Truth:
        """Ids are the values as stored. Raises `DatasetError` for a value of no class."""
        assert file.mask is not None
        ids = index_values(file.mask).astype(np.int32)
        classes = np.where(ids > CLASSES, ids // _INSTANCES, ids)
        table = {0: VOID, **{index + 1: index for index in range(CLASSES)}}
        labels = look_up(classes, table, f"{file.mask}", f"a class from 0 to {CLASSES}, or class * 100 + instance")
        found, first = np.unique(ids, return_index=True)
        segments = {
            int(value): TrueSegment(int(labels.flat[place])) for value, place in zip(found, first, strict=True) if value
        }
        return Truth(labels, ids, segments)


def _videos(
    name: str,
    parts: dict[str, tuple[Path, Path]],
    read: MaskReader,
    stuff: tuple[bool, ...] | None = None,
    novel: tuple[int, ...] = (),
) -> VideoSet:
    """Sequences from folders of frames and masks of the same names. A frame without a mask is seen, and not counted."""
    clips, skipped = [], []
    for video, (images, masks) in parts.items():
        labelled = {path.stem: path for path in masks.glob("*.png") if not path.name.startswith(".")}
        frames = sorted(path for path in images.glob("*.jpg") if not path.name.startswith("."))
        skipped += [f"{video}/{path.name}: no such frame" for path in _without(labelled, frames)]
        if not any(path.stem in labelled for path in frames):
            skipped.append(f"{video}: {'no frames' if not frames else 'no masks'}")
            continue
        clips.append(LabelledClip(video, tuple(LabelledFile(path, labelled.get(path.stem)) for path in frames)))
    return VideoSet(name, _classes(), tuple(clips), read, tuple(skipped), stuff, novel)


def _without(labelled: dict[str, Path], frames: list[Path]) -> list[Path]:
    there = {path.stem for path in frames}
    return [path for stem, path in sorted(labelled.items()) if stem not in there]
