"""Own photos: index masks beside a class list, and in `background/` what is known to be none of the classes.

    folder/
      classes.json                     ["sky", "tree|bush", …]
      images/{train,val}/NAME.jpg      any photo format
      masks/{train,val}/NAME.png       class index, 255 = not labelled; also .bmp, .tif, .gif; 1 to 16 bits
      background/{train,val}/NAME.png  optional, non-zero = none of the classes

In `masks/` a pixel that shows none of the classes is 255, like an unlabelled one; only the map tells which.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...bundle.errors import DatasetError
from ...bundle.image_files import is_image_name
from ...bundle.metrics import IGNORE
from ..folders import pair_folders
from ..labelled import VOID, PhotoSet
from ..masks import IndexMask
from ..names.category_names import CategoryNames, category_names
from ..text_files import read_json
from .reader import PhotoReader, Split


def open_index_masks(folder: Path, split: Split) -> PhotoSet:
    """The photos of a split; raises `DatasetError`."""
    path = folder / "classes.json"
    names = read_json(path)
    if not isinstance(names, list) or not names:
        raise DatasetError(f"{path} holds {_shown(names)}, expected a list of names in the order of the masks' indices")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f'{path} has {_shown(name)} as class {index}, expected a name such as "tree"')
    classes = named_classes(names, path)
    _refuse_twins(classes, path)
    images = folder / "images" / split
    files, skipped = pair_folders(images, folder / "masks" / split, folder / "background" / split)
    if not images.is_dir() or not any(is_image_name(path) for path in images.iterdir()):
        raise DatasetError(f"{_nothing_in(images)}; expected photos in it, and their masks in masks/{split}/")
    table = {IGNORE: VOID, **{index: index for index in range(len(classes))}}
    about = f"the class indices 0 to {len(classes) - 1} of classes.json, or {IGNORE}"
    return PhotoSet(folder.name, classes, files, IndexMask(tuple(table.items()), about), skipped)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:60]


def _refuse_twins(classes: Sequence[CategoryNames], path: Path) -> None:
    """Raise `DatasetError` for two classes of one name, whatever their case: no one could tell them apart by it."""
    first: dict[str, int] = {}
    for index, entry in enumerate(classes):
        if (other := first.setdefault(entry.names[0].casefold(), index)) != index:
            raise DatasetError(
                f"{path} has the name {entry.names[0]!r} twice, as classes {other} and {index}; rename one of them, or give "
                "the regions of both one index"
            )


def _nothing_in(images: Path) -> str:
    """Which folder has no photos, and what lies there instead."""
    above = sorted(images.parent.iterdir()) if images.parent.is_dir() else []
    photos = sum(is_image_name(path) and path.is_file() for path in above)
    folders = [path.name for path in above if path.is_dir()]
    what = f"{images} is empty" if images.is_dir() else f"there is no folder {images}"
    if photos:
        return f"{what}; {photos} photos lie right in {images.parent}/, without a folder for the split"
    if folders and not images.is_dir():
        return f"{what}; {images.parent.name}/ holds {', '.join(folders[:5])}"
    return what


def named_classes(names: list[Any], path: Path) -> tuple[CategoryNames, ...]:
    """The classes that the file `path` names; raises `DatasetError` for what is no name, or more than fit a mask."""
    if len(names) > IGNORE:
        raise DatasetError(f"{path} has {len(names)} names, at most {IGNORE} fit an 8-bit mask")
    for name in names:
        if not isinstance(name, str):
            raise DatasetError(f"{path} has {name!r} as the name of a category, expected text; correct it")
    try:
        return tuple(map(category_names, names))
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error


INDEX_MASKS = PhotoReader("index-masks", ("classes.json",), open_index_masks)
