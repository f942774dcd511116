"""Labels of any format -> photos with index masks, the layout that training, benchmarks and calibration read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...bundle.errors import DatasetError, UsageError
from ...bundle.files import replacing_folder
from ...bundle.metrics import IGNORE
from ..images import is_turned, read_stored, read_upright
from ..labelled import VOID
from ..readers.reader import Split
from .label_format import Annotated, FormatSet, LabelFormat, Painted

MARKER = "conversion.json"  # in every folder that a conversion wrote


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    classes: tuple[str, ...]
    photos: dict[Split, int]
    pixels: tuple[int, ...]  # of each class
    skipped: tuple[str, ...]  # what was left out, and why


@dataclass(frozen=True)
class LoadedPhoto:
    """A photo with its labels, lying alike."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR
    painted: Painted
    turned: bool  # it was turned upright, so its file cannot be copied as it is


def convert(
    source: Path,
    label_format: LabelFormat,
    photos: FormatSet,
    target: Path,
    *,
    train_share: float = 0.9,
    on_photo: Callable[[], None] = lambda: None,
) -> Conversion:
    """Write the folder `target` whole or not at all: classes.json, images/, masks/, and background/ where it is known.

    Photos of a source that knows no splits go to train by `train_share`, decided by their names, so that more photos
    leave the earlier ones where they are. A photo that cannot be read, or without a label, is left out with its reason.
    Raises `DatasetError` where nothing is left, `UsageError` for a target that is something else, `BundleError` where
    the system refuses to write.
    """
    if not photos.photos:
        first = f"; the first left out: {photos.skipped[0]}" if photos.skipped else ""
        raise DatasetError(f"{source}, read as {label_format.title}, holds no photo with labels{first}")
    if len(photos.classes) > IGNORE:
        raise DatasetError(f"{source} has {len(photos.classes)} classes, at most {IGNORE} fit; merge some with --names")
    if target.resolve() == source.resolve():
        raise UsageError(f"{target} is what is converted; choose another folder with -o")
    counts: dict[Split, int] = {"train": 0, "val": 0}
    pixels = np.zeros(len(photos.classes), np.int64)
    skipped = list(photos.skipped)
    with replacing_folder(target, MARKER, "converted data set") as work:
        for photo in photos.photos:
            on_photo()
            try:
                loaded = load_annotated(photo, label_format)
            except DatasetError as error:
                skipped.append(str(error))
                continue
            found = loaded.painted.labels[loaded.painted.labels != VOID]
            background = loaded.painted.background
            if not found.size and (background is None or not background.any()):
                skipped.append(f"{photo.image.name}: no label")
                continue
            split = photo.split or _split_of(photo.name, train_share)
            _write(work, photo, loaded, split)
            counts[split] += 1
            pixels += np.bincount(found, minlength=len(pixels))
        if not sum(counts.values()):
            raise DatasetError(f"{source}: no photo could be converted; the first: {skipped[0]}")
        _write_json(work / "classes.json", list(photos.classes))
        _write_json(work / MARKER, {"format": label_format.name, "photos": counts, "left_out": skipped})
    return Conversion(photos.classes, counts, tuple(pixels.tolist()), tuple(skipped))


def load_annotated(photo: Annotated, label_format: LabelFormat) -> LoadedPhoto:
    """A photo and its labels; raises `DatasetError`."""
    turned = is_turned(photo.image)
    ways = ([True] if label_format.upright else [False, True]) if turned else [False]
    for upright in ways:
        image = read_upright(photo.image) if upright else read_stored(photo.image)
        try:
            painted = photo.paint((image.shape[0], image.shape[1]))
        except DatasetError:
            if upright == ways[-1]:
                raise
        else:
            return LoadedPhoto(image, painted, upright)
    raise AssertionError("unreachable: the last way returns or raises")


def _split_of(name: str, train_share: float) -> Split:
    place = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
    return "train" if place < train_share else "val"


def _write(work: Path, photo: Annotated, loaded: LoadedPhoto, split: Split) -> None:
    for kind in ("images", "masks"):
        (work / kind / split).mkdir(parents=True, exist_ok=True)
    if loaded.turned:
        Image.fromarray(loaded.image[..., ::-1]).save(work / "images" / split / f"{photo.name}.png")
    else:
        shutil.copyfile(photo.image, work / "images" / split / f"{photo.name}{photo.image.suffix}")
    labels = loaded.painted.labels
    mask = np.where(labels == VOID, IGNORE, labels).astype(np.uint8)
    Image.fromarray(mask).save(work / "masks" / split / f"{photo.name}.png")
    if loaded.painted.background is not None and loaded.painted.background.any():
        (work / "background" / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(loaded.painted.background).save(work / "background" / split / f"{photo.name}.png")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
