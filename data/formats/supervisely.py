"""Supervisely's projects: `meta.json`, and a folder a data set with `ann/NAME.jpg.json` and `img/NAME.jpg`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ...bundle.errors import DatasetError
from ..readers.other_formats import json_kind
from ..readers.reader import Split
from ..text_files import read_json
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
from .shapes import Mask, encoded_bitmap, fill_pixels, paste, rectangle


class Supervisely(LabelFormat):
    """Objects in the order of the file: later ones cover earlier ones."""

    name = "supervisely"
    title = "a Supervisely project"

    def recognises(self, folder: Path) -> bool:
        """See `LabelFormat`."""
        path = folder / "meta.json"
        return path.is_file() and json_kind(path) == "a Supervisely project"

    def read(self, folder: Path, options: ReadOptions) -> FormatSet:
        """See `LabelFormat`; a data set called train or val is that split."""
        meta = read_json(folder / "meta.json")
        try:
            given = [str(entry["title"]) for entry in meta["classes"]]
        except (KeyError, TypeError) as error:
            raise DatasetError(
                f"{folder / 'meta.json'} names no classes ({error!r}); export the project again"
            ) from error
        classes, indices = merged(given, options)
        index = dict(zip(given, indices, strict=True))
        paths = sorted(folder.glob("*/ann/*.json")) or sorted(folder.glob("ann/*.json"))
        photos: list[Annotated] = []
        skipped: list[str] = []
        for path, name in zip(paths, unique_names([path.with_suffix("") for path in paths], folder), strict=True):
            image = path.parent.parent / "img" / path.stem
            if not image.is_file():
                skipped.append(f"{path.name}: no photo img/{path.stem}")
                continue
            part = path.parent.parent.name
            split: Split | None = "train" if part == "train" else "val" if part in ("val", "validation") else None
            photos.append(Annotated(image, name, partial(_paint, path, index, options), split))
        return FormatSet(classes, tuple(photos), tuple(skipped))


def _paint(path: Path, index: dict[str, int], options: ReadOptions, size: Size) -> Painted:
    document = read_json(path)
    canvas = Canvas(size)
    try:
        noted = document["size"]["height"], document["size"]["width"]
        if noted != size:
            raise DatasetError(f"it notes {noted[1]}x{noted[0]}, the photo is {size[1]}x{size[0]}")
        for thing in document["objects"]:
            mask = _mask(thing, size)
            if mask is not None:
                if thing["classTitle"] not in index:
                    raise DatasetError(f"meta.json names no class {thing['classTitle']!r}")
                group = thing.get("instance")  # parts of one object share its key
                canvas.paint(mask, index[thing["classTitle"]], group if isinstance(group, str) else None)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, DatasetError) as error:
        raise DatasetError(f"{path} cannot be painted ({error})") from error
    return painted(canvas.labels, options, canvas.objects)


def _mask(thing: dict[str, Any], size: Size) -> Mask | None:
    kind = thing["geometryType"]
    if kind == "bitmap":
        left, top = thing["bitmap"]["origin"]
        return paste(encoded_bitmap(thing["bitmap"]["data"], deflated=True), int(left), int(top), size)
    if kind == "polygon":
        # Points are pixels: those of the outer ring belong to the object, those of a hole's ring to the hole.
        mask = fill_pixels(thing["points"]["exterior"], size)
        for hole in thing["points"]["interior"]:
            mask &= ~fill_pixels(hole, size)
        return mask
    if kind == "rectangle":
        (x1, y1), (x2, y2) = thing["points"]["exterior"]
        return rectangle(min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1, size)
    return None  # points and lines cover no pixels
