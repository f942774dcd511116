"""CVAT's XML "for images" (1.1): polygons, rectangles, ellipses and masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ...bundle.errors import DatasetError
from ..labelled import VOID
from ..readers.other_formats import xml_kind
from ..text_files import is_regular, read_text
from .label_format import Annotated, Canvas, FormatSet, LabelFormat, Painted, ReadOptions, Size, merged, painted
from .shapes import Mask, fill, paste, rectangle, row_runs

_SHAPES = ("polygon", "box", "ellipse", "mask")


class CvatXml(LabelFormat):
    """Shapes by `z_order`, then in the order of the file: later ones cover earlier ones."""

    name = "cvat"
    title = "CVAT's XML for images"

    def recognises(self, folder: Path) -> bool:
        """See `LabelFormat`."""
        return bool(_files(folder))

    def read(self, folder: Path, options: ReadOptions) -> FormatSet:
        """See `LabelFormat`; classes are those of the task, in its order, and then those met."""
        images: list[tuple[Path, ElementTree.Element]] = []
        given: list[str] = []
        skipped: list[str] = []
        for path in _files(folder):
            root = _parsed(path)
            given += [entry.text for entry in root.iterfind(".//labels/label/name") if entry.text]
            for image in root.iterfind("image"):
                images.append((path, image))
                given += [shape.get("label", "") for shape in image if shape.tag in _SHAPES]
                skipped += [
                    f"{image.get('name')}: a {shape.tag} covers no pixels"
                    for shape in image
                    if shape.tag not in _SHAPES and shape.get("label")
                ]
        names = list(dict.fromkeys(name for name in given if name))
        classes, indices = merged(names, options)
        index = dict(zip(names, indices, strict=True))
        photos: list[Annotated] = []
        for path, image in images:
            name = image.get("name", "")
            place = _place(path.parent, name)
            if place is None:
                skipped.append(f"{name}: no such photo")
            else:
                stem = Path(name).with_suffix("").as_posix().replace("/", "_")
                photos.append(Annotated(place, stem, partial(_paint, image, index, options)))
        return FormatSet(classes, tuple(photos), tuple(skipped))


def _files(folder: Path) -> list[Path]:
    found = [*folder.glob("*.xml"), *folder.glob("*/*.xml")]
    return sorted(path for path in found if xml_kind(path) == "CVAT's XML")


def _parsed(path: Path) -> ElementTree.Element:
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # entities can grow without bounds, and CVAT writes none
        raise DatasetError(f"{path} defines entities, which CVAT's files do not; it is not read")
    try:
        return ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        raise DatasetError(f"{path} is not XML ({error}); export it again") from error


def _place(folder: Path, name: str) -> Path | None:
    relative = Path(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts:
        relative = Path(relative.name)
    for base in ("images", ".", "data", "images/default"):
        for candidate in (folder / base / relative, folder / base / relative.name):
            if is_regular(candidate):
                return candidate
    return None


def _paint(image: ElementTree.Element, index: dict[str, int], options: ReadOptions, size: Size) -> Painted:
    name = image.get("name")
    noted = image.get("height"), image.get("width")
    if noted != (str(size[0]), str(size[1])) and None not in noted:
        raise DatasetError(f"CVAT notes {name} as {noted[1]}x{noted[0]}, the photo is {size[1]}x{size[0]}")
    canvas = Canvas(size)
    shapes = [shape for shape in image if shape.tag in _SHAPES]
    for shape in sorted(shapes, key=_depth):
        group = shape.get("group_id", "0")
        label = index.get(shape.get("label", ""), VOID)
        canvas.paint(_mask(shape, size, str(name)), label, None if group == "0" else group)
    return painted(canvas.labels, options, canvas.objects)


def _depth(shape: ElementTree.Element) -> int:
    try:
        return int(shape.get("z_order", "0"))
    except ValueError:
        return 0


def _mask(shape: ElementTree.Element, size: Size, name: str) -> Mask:
    try:
        return _area(shape, size)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, DatasetError) as error:
        raise DatasetError(f"{name}: a {shape.tag} cannot be painted ({error})") from error


def _area(shape: ElementTree.Element, size: Size) -> Mask:
    def number(key: str) -> float:
        return float(shape.attrib[key])

    if shape.tag == "polygon":
        return fill([[float(value) for pair in shape.attrib["points"].split(";") for value in pair.split(",")]], size)
    if shape.tag == "box":
        return rectangle(number("xtl"), number("ytl"), number("xbr"), number("ybr"), size)
    if shape.tag == "ellipse":
        rows, columns = np.ogrid[: size[0], : size[1]]
        x, y = (columns + 0.5 - number("cx")) / number("rx"), (rows + 0.5 - number("cy")) / number("ry")
        return np.asarray(x**2 + y**2 <= 1, np.bool_)
    runs = [int(value) for value in shape.attrib["rle"].split(",")]
    height, width = int(number("height")), int(number("width"))
    if not (0 < height <= size[0] and 0 < width <= size[1]):
        raise DatasetError(f"its mask is {width}x{height}")
    return paste(row_runs(runs, (height, width)), int(number("left")), int(number("top")), size)
