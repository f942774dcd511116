"""COCO-Stuff 164k (Caesar et al., CVPR 2018), and COCO-Object, which is made from it (GroupViT, CVPR 2022).

folder/
  images/{train,val}2017/*.jpg
  annotations/{train,val}2017/*.png      a class's id less one, 255 = not labelled

coco-stuff     171 classes: 80 things, 91 kinds of stuff; 255 does not count
coco-object    the background, which is all stuff and what nobody labelled, and the 80 things

Masks that MMSegmentation's conversion has put beside them (`_labelTrainIds`, `_instanceTrainIds`) are not needed.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from ...bundle.metrics import IGNORE
from ..folders import Paired, pair
from ..labelled import VOID, CompositeNames, PhotoSet
from ..masks import IndexMask
from ..names.category_names import category_names
from .reader import PhotoReader, Split

_ABOUT = "ids of COCO-Stuff less one, 0 to 181, or 255"


def coco_stuff(folder: Path, split: Split) -> PhotoSet:
    """The photos of a split; raises `DatasetError`."""
    ids = known_ids()
    table = {IGNORE: VOID, **{number - 1: index for index, number in enumerate(ids.values())}}
    read = IndexMask(tuple(table.items()), _ABOUT)
    found, skipped = _pairs(folder, split)
    return PhotoSet("coco-stuff", tuple(map(category_names, ids)), found, read, skipped)


def coco_object(folder: Path, split: Split) -> PhotoSet:
    """The photos of a split, with the background as class 0; raises `DatasetError`."""
    things, stuff = _known()["things"], _known()["stuff"]
    table = {
        IGNORE: 0,
        **{number - 1: 0 for number in stuff.values()},
        **{number - 1: index for index, number in enumerate(things.values(), start=1)},
    }
    # Nothing looks like the word "background"; the stuff is what it shows.
    others = [category_names(name).names[0] for name in stuff]
    background = CompositeNames(tuple(dict.fromkeys(others)), (), label="background", defining=len(set(others)))
    found, skipped = _pairs(folder, split)
    classes = (background, *map(category_names, things))
    return PhotoSet("coco-object", classes, found, IndexMask(tuple(table.items()), _ABOUT), skipped)


def _pairs(folder: Path, split: Split) -> Paired:
    masks = folder / "annotations" / f"{split}2017"
    photos = sorted((folder / "images" / f"{split}2017").glob("*.jpg"))
    return pair(photos, lambda photo: masks / f"{photo.stem}.png")


def known_ids() -> dict[str, int]:
    """Names of all 171 classes with their ids."""
    return {**_known()["things"], **_known()["stuff"]}


@cache
def _known() -> dict[str, dict[str, int]]:
    """Names of the things and of the stuff with their ids, in their order."""
    raw = json.loads((files("ovs_edge.data") / "coco_stuff_classes.json").read_text(encoding="utf-8"))
    return {kind: raw[kind] for kind in ("things", "stuff")}


COCO_STUFF = PhotoReader("coco-stuff", ("annotations/{split}2017",), coco_stuff)
COCO_OBJECT = PhotoReader("coco-object", (), coco_object)  # opened by its name only
