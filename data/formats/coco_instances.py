"""COCO's annotations of instances and of stuff: polygons and run lengths in one JSON file a split."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.errors import DatasetError
from ..readers.other_formats import json_kind
from ..readers.reader import Split
from ..text_files import is_regular, read_json
from .label_format import Annotated, Canvas, FormatSet, LabelFormat, Painted, ReadOptions, Size, merged, painted
from .shapes import Mask, decode_runs, fill


class CocoInstances(LabelFormat):
    """Smaller regions cover larger ones; a crowd (`iscrowd`) of run lengths stays unlabelled."""

    name = "coco"
    title = "COCO instances or stuff"
    upright = False

    def recognises(self, folder: Path) -> bool:
        """See `LabelFormat`."""
        return any(json_kind(path) == _KIND for path in _candidates(folder)[:_LOOKED_AT])

    def read(self, folder: Path, options: ReadOptions) -> FormatSet:
        """See `LabelFormat`; categories of all files are joined by name, in the order of their ids."""
        paths = _files(folder)
        documents = {path: _document(path) for path in paths}
        given: list[str] = []
        for document in documents.values():
            ordered = sorted(document["categories"], key=lambda category: category["id"])
            given += [name for category in ordered if (name := str(category["name"])) not in given]
        classes, indices = merged(given, options)
        photos: list[Annotated] = []
        skipped: list[str] = []
        for path, document in documents.items():
            index = {category["id"]: indices[given.index(str(category["name"]))] for category in document["categories"]}
            by_image: dict[Any, list[dict[str, Any]]] = {}
            for annotation in document["annotations"]:
                by_image.setdefault(annotation["image_id"], []).append(annotation)
            split = _split(path)
            taken: set[str] = set()
            for image in document["images"]:
                place = _place(folder, path, str(image["file_name"]))
                if place is None:
                    skipped.append(f"{image['file_name']}: no such photo")
                    continue
                name = Path(str(image["file_name"])).with_suffix("").as_posix().replace("/", "_")
                while name.casefold() in taken:
                    name += "_"
                taken.add(name.casefold())
                paint = partial(_paint, path, image, by_image.get(image["id"], []), index, options)
                photos.append(Annotated(place, name, paint, split))
        return FormatSet(classes, tuple(photos), tuple(skipped))


_KIND = "COCO instances"
_LOOKED_AT = 20  # JSON files, to recognise the format


def _candidates(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.json"), *folder.glob("*/*.json")])


def _files(folder: Path) -> list[Path]:
    return [path for path in _candidates(folder) if json_kind(path) == _KIND]


def _document(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = read_json(path)
    try:
        for category in document["categories"]:
            _ = category["id"] + 0, category["name"]
        for image in document["images"]:
            _ = hash(image["id"]), image["file_name"]
        for annotation in document["annotations"]:
            _ = hash(annotation["image_id"]), hash(annotation["category_id"])
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path} is not COCO: {type(error).__name__} {error}") from error
    return document


def _split(path: Path) -> Split | None:
    for split in ("train", "val"):
        if split in path.stem or split in path.parent.name:
            return "train" if split == "train" else "val"
    return None


def _place(folder: Path, path: Path, name: str) -> Path | None:
    """Where a photo lies: as noted, or in the folders that are usual for it; never outside of the folder."""
    relative = Path(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts:
        relative = Path(relative.name)
    split = path.stem.rpartition("_")[2]
    for base in ("", "images", split, f"images/{split}", f"{split}2017", "data", path.parent.relative_to(folder)):
        if is_regular(folder / base / relative):
            return folder / base / relative
    return None


def _paint(
    path: Path,
    image: dict[str, Any],
    annotations: list[dict[str, Any]],
    index: dict[Any, int],
    options: ReadOptions,
    size: Size,
) -> Painted:
    noted = image.get("height"), image.get("width")
    if None not in noted and noted != size:
        raise DatasetError(
            f"{path} notes {image['file_name']} as {noted[1]}x{noted[0]}, the photo is {size[1]}x{size[0]}"
        )
    canvas = Canvas(size)
    crowds = np.zeros(size, np.bool_)
    regions: list[tuple[int, int, Mask]] = []
    for annotation in annotations:
        try:
            mask, label = _mask(annotation["segmentation"], size), index[annotation["category_id"]]
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, DatasetError) as error:
            raise DatasetError(f"{path}: an annotation of {image['file_name']} cannot be read ({error})") from error
        if annotation.get("iscrowd"):
            crowds |= mask
        else:
            regions.append((int(mask.sum()), label, mask))
    for _, label, mask in sorted(regions, key=lambda region: -region[0]):
        canvas.paint(mask, label)
    result = painted(canvas.labels, options, canvas.objects)
    if result.background is not None:
        return replace(result, background=result.background & ~crowds)
    return result


def _mask(segmentation: Any, size: Size) -> Mask:
    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != size:
            raise DatasetError(f"run lengths of {segmentation['size'][1]}x{segmentation['size'][0]} pixels")
        return decode_runs(segmentation["counts"], size)
    result = np.zeros(size, np.bool_)
    for outline in segmentation:  # parts of one object, all of them inside
        result |= fill([outline], size)
    return result
