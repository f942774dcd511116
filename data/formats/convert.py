"""Labels of any format -> a layout that training, benchmarks and calibration read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...bundle.errors import DatasetError, UsageError
from ...bundle.files import replacing_folder
from ...bundle.metrics import IGNORE
from ..images import is_turned, read_stored, read_upright
from ..labelled import VOID
from ..readers.reader import Split
from .label_format import Annotated, FormatSet, LabelFormat
from .writers.coco_panoptic import CocoPanopticWriter
from .writers.index_masks import IndexMaskWriter
from .writers.layout import LayoutWriter, LoadedPhoto, write_json

MARKER = "conversion.json"  # in every folder that a conversion wrote


@dataclass(frozen=True)
class Conversion:
    """What was written."""

    classes: tuple[str, ...]
    photos: dict[Split, int]
    pixels: tuple[int, ...]  # of each class
    skipped: tuple[str, ...]  # what was left out, and why
    background_lost: float = 0.0  # share of the pixels without a label that are known to be none of the classes, and
    # that the layout does not tell apart from the others


@dataclass(frozen=True)
class ConvertOptions:
    """How a data set is written."""

    layout: str = IndexMaskWriter.name  # one of `LAYOUTS`
    train_share: float = 0.9  # of the photos of a source that knows no splits
    stuff: tuple[str, ...] = ()  # coco-panoptic: classes whose objects are not told apart
    link: bool = False  # symbolic links to the photos instead of copies


LAYOUTS: dict[str, type[LayoutWriter]] = {writer.name: writer for writer in (IndexMaskWriter, CocoPanopticWriter)}


_USUAL = ConvertOptions()


def convert(
    source: Path,
    label_format: LabelFormat,
    photos: FormatSet,
    target: Path,
    options: ConvertOptions = _USUAL,
    on_photo: Callable[[], None] = lambda: None,
) -> Conversion:
    """Write the folder `target` whole or not at all, in one of the layouts that training reads.

    Photos of a source that knows no splits go to train by their names, so that more photos leave the earlier ones where
    they are. A photo that cannot be read, or without a label, is left out with its reason.
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
    writing = _writer(options, photos.classes)
    counts: dict[Split, int] = {"train": 0, "val": 0}
    pixels = np.zeros(len(photos.classes), np.int64)
    skipped = list(photos.skipped)
    void = none = 0
    with replacing_folder(target, MARKER, "converted data set") as work:
        writer = writing(work)
        for photo in photos.photos:
            on_photo()
            try:
                loaded = load_annotated(photo, label_format)
            except DatasetError as error:
                skipped.append(str(error))
                continue
            found = loaded.painted.labels[loaded.painted.labels != VOID]
            background = loaded.painted.background
            if not found.size and not (writer.keeps_background and background is not None and background.any()):
                skipped.append(f"{photo.image.name}: no label")
                continue
            split = photo.split or _split_of(photo.name, options.train_share)
            writer.add(photo.name, loaded, split)
            void += int((loaded.painted.labels == VOID).sum())
            none += 0 if background is None else int(background.sum())
            counts[split] += 1
            pixels += np.bincount(found, minlength=len(pixels))
        if not sum(counts.values()):
            raise DatasetError(f"{source}: no photo could be converted; the first: {skipped[0]}")
        writer.finish()
        about = {"format": label_format.name, "layout": writer.name, "photos": counts, "left_out": skipped}
        write_json(work / MARKER, about)
    lost = 0 if writer.keeps_background else none
    return Conversion(photos.classes, counts, tuple(pixels.tolist()), tuple(skipped), lost / void if void else 0.0)


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
            return LoadedPhoto(image, painted, upright, photo.image)
    raise AssertionError("unreachable: the last way returns or raises")


def _writer(options: ConvertOptions, classes: tuple[str, ...]) -> Callable[[Path], LayoutWriter]:
    """What makes the writer of a folder. Raises `UsageError`."""
    if options.layout not in LAYOUTS:
        raise UsageError(f"the layout is {options.layout!r}, expected one of: {', '.join(LAYOUTS)}")
    if options.layout != CocoPanopticWriter.name:
        if options.stuff:
            raise UsageError(f"classes were named as stuff, which {options.layout} does not know; use coco-panoptic")
        return lambda work: LAYOUTS[options.layout](work, classes, link=options.link)
    if unknown := [name for name in options.stuff if name not in classes]:
        raise UsageError(
            f"{unknown[0]!r} was named as stuff and is no class; the classes are {', '.join(classes[:20])}"
        )
    return lambda work: CocoPanopticWriter(work, classes, link=options.link, stuff=options.stuff)


def _split_of(name: str, train_share: float) -> Split:
    place = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64
    return "train" if place < train_share else "val"
