"""Formats of labels that are not read as they are, told by their names, so that a message can name them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from ..text_files import is_regular

_BOXES = "boxes in XML files, as of Pascal VOC or LabelImg, which tell no pixels"
_YOLO_ALONE = "YOLO's text files without data.yaml, which names the classes"

_FILES = 200  # that are looked at
_HEAD = 4096  # bytes of a file that are looked at


def other_format(folder: Path) -> str | None:
    """What the labels in a folder look like, such as "LabelMe's JSON files"; None if that cannot be told."""
    files = list(islice(_files(folder), _FILES))
    names = {path.name.lower() for path in files}
    if {"data.yaml", "dataset.yaml", "data.yml"} & names and any(path.suffix == ".txt" for path in files):
        return "YOLO's text files with data.yaml"
    if "labelmap.txt" in names:
        return "CVAT's segmentation masks, colours with labelmap.txt"
    for path in files:
        suffix = path.suffix.lower()
        if suffix == ".json" and (found := json_kind(path)):
            return found
        if suffix == ".xml" and (found := xml_kind(path)):
            return found
    if any(path.suffix.lower() == ".txt" and path.parent.parent.name == "labels" for path in files):
        return _YOLO_ALONE
    return None


def convertible(found: str) -> bool:
    """Whether `ovs-data convert` reads what `other_format` found."""
    return found not in (_BOXES, _YOLO_ALONE)


def _files(folder: Path) -> Iterator[Path]:
    """Files of the folder and three levels below it; labels come before photos."""
    for pattern in ("*.y*ml", "*.txt", "*.json", "*.xml"):
        for level in ("", "*/", "*/*/", "*/*/*/"):
            yield from sorted(path for path in folder.glob(level + pattern) if not path.name.startswith("."))[:50]


def json_kind(path: Path) -> str | None:
    """Which label format a JSON file is of; None if none is known."""
    if not is_regular(path):
        return None
    head = _head(path)
    if '"shapes"' in head and ('"imagePath"' in head or '"imageData"' in head):
        return "LabelMe's JSON files"
    if path.name == "meta.json" and '"classes"' in head:
        return "a Supervisely project"
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig")) if path.stat().st_size < 2**26 else {}
    except (OSError, ValueError, RecursionError):
        return None
    if isinstance(content, dict):
        if {"images", "annotations", "categories"} <= content.keys():
            return "COCO instances"
        if "shapes" in content:
            return "LabelMe's JSON files"
        if {"objects", "size"} <= content.keys():
            return "a Supervisely project"
    return None


def xml_kind(path: Path) -> str | None:
    """Which label format an XML file is of; None if none is known."""
    head = _head(path)
    if "<annotations>" in head and "<image " in head:
        return "CVAT's XML"
    if "<annotation>" in head:
        return _BOXES
    return None


def _head(path: Path) -> str:
    if not is_regular(path):
        return ""
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD).decode("utf-8", "replace")
    except OSError:
        return ""
