"""LabelMe's JSON files (labelme 3 to 5), one beside each photo."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.errors import DatasetError
from ...bundle.image_files import is_image_name
from ..labelled import VOID
from ..readers.other_formats import json_kind
from ..text_files import is_regular, read_json
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
from .shapes import Mask, circle, encoded_bitmap, fill, paste, rectangle

IGNORED, BACKGROUND = "__ignore__", "_background_"  # LabelMe's names for unlabelled, and for none of the classes


class LabelMe(LabelFormat):
    """Shapes in the order of the file: later ones cover earlier ones."""

    name = "labelme"
    title = "LabelMe"

    def recognises(self, folder: Path) -> bool:
        """See `LabelFormat`."""
        return any(json_kind(path) == "LabelMe's JSON files" for path in sorted(_files(folder))[:20])

    def read(self, folder: Path, options: ReadOptions) -> FormatSet:
        """See `LabelFormat`; the classes are in alphabetical order."""
        documents: list[tuple[Path, Path, dict[str, Any]]] = []
        skipped: list[str] = []
        names: set[str] = set()
        for path in sorted(_files(folder)):
            try:
                document = read_json(path)
            except DatasetError as error:
                skipped.append(str(error))
                continue
            if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
                skipped.append(f"{path.name}: no LabelMe file")
                continue
            image = _image(path, document)
            if image is None:
                skipped.append(f"{path.name}: no photo {document.get('imagePath')!r} beside it")
                continue
            usable = []
            for shape in document["shapes"]:
                if not isinstance(shape, dict) or _MASKS.get(_kind(shape)) is None:
                    kind = _kind(shape) if isinstance(shape, dict) else "no shape"
                    skipped.append(f"{path.name}: a {kind} covers no pixels")
                elif not _label(shape):
                    skipped.append(f"{path.name}: a {_kind(shape)} has no label")
                else:
                    usable.append(shape)
            names |= {_label(shape) for shape in usable}
            documents.append((path, image, {**document, "shapes": usable}))
        given = sorted(names - {IGNORED, BACKGROUND})
        classes, indices = merged(given, options)
        index = {**dict(zip(given, indices, strict=True)), IGNORED: VOID, BACKGROUND: _NONE}
        chosen = unique_names([path for path, _, _ in documents], folder)
        photos = [
            Annotated(image, name, partial(_paint, path, document, index, options))
            for (path, image, document), name in zip(documents, chosen, strict=True)
        ]
        return FormatSet(classes, tuple(photos), tuple(skipped))


_NONE = -3  # painted as background


def _files(folder: Path) -> list[Path]:
    found = ((path, path.relative_to(folder).parts) for path in folder.rglob("*.json"))
    return [path for path, parts in found if not any(part.startswith(".") for part in parts) and is_regular(path)]


def _image(path: Path, document: dict[str, Any]) -> Path | None:
    """The photo by its note in the file, which may be of another machine, or by the file's own name."""
    noted = str(document.get("imagePath") or "").replace("\\", "/")
    places = [path.parent / noted, path.parent / Path(noted).name] if noted else []
    places += sorted(other for other in path.parent.glob(f"{path.stem}.*") if is_image_name(other))
    inside = path.parent.resolve()
    return next((place for place in places if is_regular(place) and _near(place, inside)), None)


def _near(place: Path, folder: Path) -> bool:
    """Whether a photo lies within two folders of its file: an absolute path of elsewhere is not followed."""
    return any(parent in place.resolve().parents for parent in (folder, folder.parent, folder.parent.parent))


def _kind(shape: dict[str, Any]) -> str:
    return str(shape.get("shape_type") or "polygon")


def _label(shape: dict[str, Any]) -> str:
    """The class name without spaces around it, which nobody sees in LabelMe; empty where there is none."""
    label = shape.get("label")
    return "" if label is None else str(label).strip()


def _polygon(shape: dict[str, Any], size: Size) -> Mask:
    return fill([[value for point in shape["points"] for value in point]], size)


def _rectangle(shape: dict[str, Any], size: Size) -> Mask:
    (x1, y1), (x2, y2) = shape["points"]
    return rectangle(x1, y1, x2, y2, size)


def _circle(shape: dict[str, Any], size: Size) -> Mask:
    (x, y), (x2, y2) = shape["points"]
    return circle(x, y, float(np.hypot(x2 - x, y2 - y)), size)


def _bitmap(shape: dict[str, Any], size: Size) -> Mask:
    (left, top), *_ = shape["points"]
    return paste(encoded_bitmap(shape["mask"]), round(left), round(top), size)


_MASKS: dict[str, Callable[[dict[str, Any], Size], Mask]] = {
    "polygon": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "mask": _bitmap,
}


def _paint(path: Path, document: dict[str, Any], index: dict[str, int], options: ReadOptions, size: Size) -> Painted:
    noted = document.get("imageHeight"), document.get("imageWidth")
    if None not in noted and noted != size:
        raise DatasetError(f"{path} is of a photo of {noted[1]}x{noted[0]}, found {size[1]}x{size[0]}")
    canvas = Canvas(size)
    for shape in document["shapes"]:
        try:
            mask = _MASKS[_kind(shape)](shape, size)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, DatasetError) as error:
            raise DatasetError(f"{path}: a {_kind(shape)} cannot be painted ({error})") from error
        group = shape.get("group_id")
        canvas.paint(mask, index[_label(shape)], group if isinstance(group, int | str) else None)
    labels, objects = canvas.labels, canvas.objects
    background = labels == _NONE
    labels[background] = VOID
    if background.any() and not options.complete:
        return Painted(labels, background, objects)
    return painted(labels, options, objects)
