"""Masks whose colours, palette entries or grey values stand for classes, by a table of colours.

folder/
  labelmap.txt                     name:r,g,b::   as CVAT writes it, or a table given with --names
  JPEGImages/ or images/           photos, also in folders train and val
  SegmentationClass/ or masks/     a mask for each photo, by the same name
  ImageSets/Segmentation/*.txt     optional: names of the photos of train and val
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...bundle.errors import DatasetError
from ...bundle.image_files import is_image_name
from ..folders import masks_by_stem
from ..labelled import VOID
from ..mask_files import decode_mask
from ..readers.reader import Split
from ..text_files import listed, read_text
from .label_format import Annotated, FormatSet, LabelFormat, Painted, ReadOptions, Size, merged, painted

BACKGROUND = "background"  # what CVAT and VOC call pixels that show none of the classes
_BORDER = (224, 224, 192)  # VOC's colour of borders, which are not labelled
_NONE, _UNKNOWN = -2, -3  # painted as background; a colour that the table does not name
_COLOUR = re.compile(r"(\d+)[ ,]+(\d+)[ ,]+(\d+)")

Colour = tuple[int, int, int]  # RGB


class ColourMasks(LabelFormat):
    """Pascal VOC and CVAT's "Segmentation mask", and any folder of photos and coloured masks with a table."""

    name = "colour-masks"
    title = "masks in colours, with a table of them"
    upright = False

    def recognises(self, folder: Path) -> bool:
        """See `LabelFormat`."""
        return (folder / "labelmap.txt").is_file() and _pair(folder) is not None

    def read(self, folder: Path, options: ReadOptions) -> FormatSet:
        """See `LabelFormat`; the table's `background` is none of the classes, its other entries are the classes."""
        table = _table(folder, options)
        found = _pair(folder)
        if found is None:
            raise DatasetError(f"{folder} has no photos and masks; expected images/ and masks/, or VOC's folders")
        given = [name for name in table if name != BACKGROUND]
        classes, indices = merged(given, ReadOptions() if _are_colours(options.names) else options)
        index = {table[name]: place for name, place in zip(given, indices, strict=True)}
        if BACKGROUND in table:
            index[table[BACKGROUND]] = _NONE
        index.setdefault(_BORDER, VOID)
        photos: list[Annotated] = []
        skipped: list[str] = []
        for image, mask, split in _photos(folder, *found, skipped):
            photos.append(Annotated(image, image.stem, partial(_paint, mask, index, options), split))
        return FormatSet(classes, tuple(photos), tuple(skipped))


class BinaryMasks(LabelFormat):
    """Masks of 0 and 255: one class, named with --names, and the rest, which is none of it."""

    name = "binary-masks"
    title = "masks of 0 and 255"
    upright = False

    def recognises(self, folder: Path) -> bool:
        """Never by itself: 255 may also mean not labelled."""
        return False

    def read(self, folder: Path, options: ReadOptions) -> FormatSet:
        """See `LabelFormat`; without --names the class is called after the folder."""
        found = _pair(folder)
        if found is None:
            raise DatasetError(f"{folder} has no photos and masks; expected images/ and masks/ in it")
        name = next(iter(options.names), folder.resolve().name)
        skipped: list[str] = []
        photos = tuple(
            Annotated(image, image.stem, partial(_paint_binary, mask), split)
            for image, mask, split in _photos(folder, *found, skipped)
        )
        return FormatSet((name,), photos, tuple(skipped))


def _are_colours(names: dict[str, str]) -> bool:
    return bool(names) and all(_COLOUR.fullmatch(value) for value in names.values())


def _table(folder: Path, options: ReadOptions) -> dict[str, Colour]:
    """Name -> colour, of --names where it tells colours, else of labelmap.txt."""
    entries = dict(options.names) if _are_colours(options.names) else {}
    path = folder / "labelmap.txt"
    if not entries and path.is_file():
        lines = [line.strip() for line in read_text(path).splitlines()]
        entries = {line.split(":")[0]: line.split(":")[1] for line in lines if ":" in line and not line.startswith("#")}
    table: dict[str, Colour] = {}
    for name, text in entries.items():
        match = _COLOUR.fullmatch(text.strip())
        if match is None or max(map(int, match.groups())) > 255:
            raise DatasetError(f"the colour of {name!r} is {text!r}, expected r,g,b from 0 to 255")
        table[name] = (int(match[1]), int(match[2]), int(match[3]))
    if not any(name != BACKGROUND for name in table):
        raise DatasetError(
            f"{folder} has no table of colours; expected labelmap.txt, or lines name: r,g,b with --names"
        )
    return table


def _pair(folder: Path) -> tuple[Path, Path] | None:
    """The folders of photos and of masks."""
    for photos, masks in (("JPEGImages", "SegmentationClass"), ("images", "masks"), ("images", "labels")):
        if (folder / photos).is_dir() and (folder / masks).is_dir():
            return folder / photos, folder / masks
    return None


def _photos(folder: Path, images: Path, masks: Path, skipped: list[str]) -> list[tuple[Path, Path, Split | None]]:
    """Photos with their masks and splits; reasons for the others are added to `skipped`."""
    splits: tuple[tuple[Split, str], ...] = (("train", "train"), ("val", "val"))
    if any((images / part).is_dir() for _, part in splits):
        return [
            (image, mask, split)
            for split, part in splits
            for image, mask, _ in _photos(folder, images / part, masks / part, skipped)
        ]
    lists: dict[str, Split] = {}
    for split, part in splits:
        path = folder / "ImageSets" / "Segmentation" / f"{part}.txt"
        if path.is_file():
            lists |= dict.fromkeys(listed(path), split)
    by_stem = masks_by_stem(masks)
    found: list[tuple[Path, Path, Split | None]] = []
    for image in sorted(images.iterdir()) if images.is_dir() else []:
        if not is_image_name(image):
            continue
        if image.stem in by_stem:
            found.append((image, by_stem[image.stem], lists.get(image.stem)))
        else:
            skipped.append(f"{image.name}: no mask {masks.name}/{image.stem}.png")
    return found


def _colours(path: Path) -> npt.NDArray[np.uint8]:
    """A mask's colours (H, W, 3) RGB; of a palette those that it stands for, of grey values the same thrice."""
    try:
        with Image.open(path) as picture:
            if picture.mode == "P":
                return np.asarray(picture.convert("RGB"), np.uint8)
    except Exception as error:  # on bytes that are no picture, or a bomb, decoders raise whatever they trip over
        raise DatasetError(f"cannot decode the mask {path} ({error}); copy it again") from error
    mask = decode_mask(path)
    return np.asarray(mask if mask.ndim == 3 else np.repeat(mask[..., None], 3, -1), np.uint8)


def _paint(path: Path, index: dict[Colour, int], options: ReadOptions, size: Size) -> Painted:
    colours = _colours(path)
    if colours.shape[:2] != size:
        raise DatasetError(f"{path} is {colours.shape[1]}x{colours.shape[0]}, its photo {size[1]}x{size[0]}")
    keys = colours.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
    labels = np.full(size, _UNKNOWN, np.int32)
    for (red, green, blue), value in index.items():
        labels[keys == red * 65536 + green * 256 + blue] = value
    unknown = labels == _UNKNOWN
    if unknown.any():
        red, green, blue = colours[unknown][0].tolist()
        raise DatasetError(f"{path} holds the colour {red},{green},{blue}, which the table does not name")
    background = labels == _NONE
    labels[background] = VOID
    return Painted(labels, background) if background.any() else painted(labels, options)


def _paint_binary(path: Path, size: Size) -> Painted:
    mask = decode_mask(path)
    shown = mask > 0 if mask.ndim == 2 else (mask > 0).any(-1)
    if shown.shape != size:
        raise DatasetError(f"{path} is {shown.shape[1]}x{shown.shape[0]}, its photo {size[1]}x{size[0]}")
    values = np.unique(mask)
    if len(values) > 2 or (len(values) == 2 and values[0]):
        raise DatasetError(f"{path} holds the values {values[:5].tolist()}, expected 0 and one other")
    return Painted(np.where(shown, 0, VOID).astype(np.int32), ~shown)
