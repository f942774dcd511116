"""YOLO's segmentation labels: `data.yaml`, and a text file of polygons for each photo.

A line is a class number and a polygon in shares of the photo's width and height: `0 x1 y1 x2 y2 x3 y3 …`.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ...bundle.errors import DatasetError
from ...bundle.image_files import is_image_name
from ..readers.reader import Split
from ..text_files import is_regular, read_text
from .label_format import (
    Annotated,
    Canvas,
    FormatSet,
    LabelFormat,
    Painted,
    ReadOptions,
    Size,
    merged,
    painted,
    unique_names,
)
from .shapes import fill

_LISTS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_BOX = 5  # numbers of a line that is a box


class Yolo(LabelFormat):
    """Photos below `images`, label files below `labels` by the same names."""

    name = "yolo"
    title = "YOLO segmentation"

    def recognises(self, folder: Path) -> bool:
        """See `LabelFormat`."""
        return _list(folder) is not None

    def read(self, folder: Path, options: ReadOptions) -> FormatSet:
        """See `LabelFormat`; a photo without a label file, or with an empty one, shows none of the classes."""
        path = _list(folder)
        if path is None:
            raise DatasetError(f"{folder} has no {_LISTS[0]}, which names YOLO's classes; expected it there")
        document = _yaml(path)
        given = _names(document, path)
        classes, indices = merged(given, options)
        photos: list[Annotated] = []
        skipped: list[str] = []
        splits: dict[Split, tuple[str, ...]] = {"train": ("train",), "val": ("val", "valid", "validation")}
        for split, keys in splits.items():
            entry = next((document[key] for key in keys if document.get(key)), None)
            images = [
                image for one in _several(entry) for image in _images(folder, path, document, _scalar(one, path, split))
            ]
            if entry is not None and not images:
                skipped.append(f"{split}: no photos in {str(_several(entry)[:3])[:200]}")
            for image, name in zip(images, unique_names(images, image_root(images)), strict=True):
                paint = partial(_paint, _labels_of(image), indices, options)
                photos.append(Annotated(image, name, paint, split))
        return FormatSet(classes, tuple(photos), tuple(skipped))


def image_root(images: list[Path]) -> Path:
    """The folder above all of them."""
    common = images[0].parent if images else Path()
    while not all(common in image.parents for image in images):
        common = common.parent
    return common


def _list(folder: Path) -> Path | None:
    return next((folder / name for name in _LISTS if (folder / name).is_file()), None)


def _yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise DatasetError(f"cannot read {path} ({str(error).splitlines()[0]}); expected YAML") from error
    if not isinstance(document, dict):
        raise DatasetError(f"{path} is no table of settings; expected names, train and val")
    return document


def _names(document: dict[str, Any], path: Path) -> list[str]:
    names = document.get("names")
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DatasetError(f"{path} has no list of names, numbered from 0")
    if any(isinstance(name, bool) for name in names):
        raise DatasetError(
            f"{path} has yes, no, on, off, true or false as a name, which YAML reads as a switch; quote it"
        )
    return [_scalar(name, path, "a name") for name in names]


def _scalar(value: Any, path: Path, what: str) -> str:
    """A value as text. Raises `DatasetError` for a list or table: a few lines of YAML may stand for gigabytes."""
    if not isinstance(value, str | int | float):
        raise DatasetError(f"{path} has a {type(value).__name__} as {what}, expected text")
    return str(value)


def _several(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [] if entry is None else [entry]


def _images(folder: Path, path: Path, document: dict[str, Any], entry: str) -> list[Path]:
    """Photos of a folder, or of a list of them; paths are taken from the folder, or from `path` in it."""
    root = _scalar(document.get("path") or "", path, "path")
    places = [folder / root / entry, folder / entry, folder / entry.removeprefix("../")]
    # Lists are read within the folder alone: a file from elsewhere may name any place of the machine.
    inside = [Path(os.path.normpath(one)) for one in places]
    place = next((one for one in inside if one.is_relative_to(os.path.normpath(folder)) and _there(one)), None)
    if place is None:
        return []
    if place.is_file():
        lines = [line.strip() for line in read_text(place).splitlines() if line.strip()]
        named = [Path(os.path.normpath(place.parent / line)) for line in lines]
        return [image for image in named if image.is_relative_to(os.path.normpath(folder)) and is_regular(image)]
    return sorted(path for path in place.rglob("*") if is_image_name(path) and path.is_file())


def _there(place: Path) -> bool:
    try:
        return place.is_dir() or place.is_file()
    except (OSError, ValueError):  # a name that the system refuses
        return False


def _labels_of(image: Path) -> Path:
    """`…/images/train/a.jpg` -> `…/labels/train/a.txt`; the last `images` of the path counts."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _paint(path: Path, indices: list[int], options: ReadOptions, size: Size) -> Painted:
    canvas = Canvas(size)
    height, width = size
    lines = read_text(path).splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) == _BOX:
            raise DatasetError(f"{path}, line {number} is a box, which tells no pixels; expected a polygon")
        try:
            place, numbers = _whole(words[0]), [float(word) for word in words[1:]]
        except (ValueError, OverflowError) as error:
            raise DatasetError(f"{path}, line {number}: {line[:40]!r} is no class with a polygon ({error})") from error
        if place >= len(indices):
            raise DatasetError(f"{path}, line {number} is of class {words[0][:20]}, expected 0 to {len(indices) - 1}")
        if len(numbers) < _BOX or len(numbers) % 2:
            raise DatasetError(f"{path}, line {number} has {len(numbers)} numbers, expected x and y of three points")
        scaled = [value * (height if odd % 2 else width) for odd, value in enumerate(numbers)]
        try:
            mask = fill([scaled], size)
        except DatasetError as error:
            raise DatasetError(f"{path}, line {number} cannot be painted ({error})") from error
        canvas.paint(mask, indices[place])
    return painted(canvas.labels, options, canvas.objects)


def _whole(word: str) -> int:
    value = int(float(word))
    if value < 0:
        raise ValueError("below 0")
    return value
