"""Pascal VOC 2012 and Pascal Context.

Pascal Context labels the photos of VOC 2010 with 459 categories; 59 of them are the usual benchmark, all else being
background that does not count. Its file of the 59 calls three of them otherwise than its file of the 459.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...bundle.errors import DatasetError
from ...bundle.metrics import IGNORE
from ..folders import pair
from ..labelled import VOID, CompositeNames, LabelledFile, MaskReader, PhotoSet, Truth
from ..mask_files import look_up
from ..masks import IndexMask
from ..names.category_names import CategoryNames, category_names
from ..names.synonyms import shipped_senses
from ..text_files import listed, read_text
from .matlab import read_mat
from .reader import PhotoReader, Split

# Names in Context's file of 59 -> in its file of 459; and how a person writes them.
_SAME = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
_SPACED = {"pottedplant": "potted plant", "tvmonitor": "tv monitor", "diningtable": "dining table"}


def voc_20(folder: Path, split: Split) -> PhotoSet:
    """VOC 2012's photos of a split; neither borders nor background count. Raises `DatasetError`."""
    table = {IGNORE: VOID, 0: VOID, **{index + 1: index for index in range(20)}}
    read = IndexMask(tuple(table.items()), "0 to 20, or 255", background=(0,))
    return _voc("voc-20", folder, split, _set("pascal_voc_20"), read)


def voc_21(folder: Path, split: Split) -> PhotoSet:
    """VOC 2012 with the background as a class, which has the names of Context's other classes.

    Nothing looks like the word "background", so that word is no name of it. Raises `DatasetError`.
    """
    things = _set("pascal_voc_20")
    own = {name for entry in things for name in entry.names} | {"table"}  # VOC's dining table
    others = [entry.names[0] for entry in _set("pascal_context_59") if entry.names[0] not in own]
    background = CompositeNames(tuple(others), (), label="background", defining=len(others))
    table = {IGNORE: VOID, **{index: index for index in range(21)}}
    read = IndexMask(tuple(table.items()), "0 to 20, or 255")
    return _voc("voc-21", folder, split, (background, *things), read)


def _voc(name: str, folder: Path, split: Split, classes: tuple[CategoryNames, ...], read: MaskReader) -> PhotoSet:
    root = _inside(folder, "VOC2012")
    photos = [root / "JPEGImages" / f"{stem}.jpg" for stem in listed(root / f"ImageSets/Segmentation/{split}.txt")]
    files, skipped = pair(photos, lambda path: root / "SegmentationClass" / f"{path.stem}.png")
    return PhotoSet(name, classes, files, read, skipped)


@dataclass(frozen=True)
class MatMask:
    """Reads Context's `.mat` files: `LabelMap` (H, W), numbers of labels.txt."""

    table: tuple[tuple[int, int], ...]  # number -> class index or VOID

    def __call__(self, file: LabelledFile) -> Truth:
        """Raises `DatasetError` for a file without such a map."""
        assert file.mask is not None
        variables = read_mat(file.mask)
        if "LabelMap" not in variables:
            raise DatasetError(f"{file.mask} holds no LabelMap; copy it again")
        numbers = np.asarray(variables["LabelMap"])
        if numbers.ndim != 2 or not np.issubdtype(numbers.dtype, np.integer):
            raise DatasetError(
                f"{file.mask}: LabelMap is {numbers.dtype} {list(numbers.shape)}, expected integers (H, W)"
            )
        return Truth(look_up(numbers, dict(self.table), f"{file.mask}", "numbers of labels.txt"))


def context_459(folder: Path, split: Split) -> PhotoSet:
    """All categories of labels.txt; raises `DatasetError`."""
    labels = _labels(folder / "labels.txt")
    table = {0: VOID, **{number: place for place, number in enumerate(labels)}}
    classes = tuple(category_names(_SPACED.get(name, name)) for name in labels.values())
    photos = _photos(folder, split)
    files, skipped = pair(photos, lambda path: folder / "trainval" / f"{path.stem}.mat")
    return PhotoSet("context-459", classes, files, MatMask(tuple(table.items())), skipped)


def context_60(folder: Path, split: Split) -> PhotoSet:
    """The 59 after the background, which is everything else and has no other name; raises `DatasetError`."""
    known = context_59(folder, split)
    background = CompositeNames(("background",), (), label="background", defining=1)
    return PhotoSet("context-60", (background, *known.classes), known.files, _WithBackground(known.read), known.skipped)


@dataclass(frozen=True)
class _WithBackground:
    """What counts for none of the classes becomes class 0."""

    read: MaskReader

    def __call__(self, file: LabelledFile) -> Truth:
        labels = self.read(file).labels
        return Truth(np.where(labels == VOID, 0, labels + 1).astype(np.int32))


def context_59(folder: Path, split: Split) -> PhotoSet:
    """The 59, from the masks made for them where there are such, else from those of all 459; raises `DatasetError`.

    MMSegmentation's conversion, `SegmentationClassContext` beside the photos, has them in alphabetical order.
    """
    photos = _photos(folder, split)
    converted = photos[0].parents[1] / "SegmentationClassContext" if photos else folder
    if photos and converted.is_dir():
        table = {0: VOID, **{index + 1: index for index in range(59)}}
        read = IndexMask(tuple(table.items()), "0 to 59")
        files, skipped = pair(photos, lambda path: converted / f"{path.stem}.png")
        return PhotoSet("context-59", _set("pascal_context_59"), files, read, skipped)
    if (folder / "59_context_labels").is_dir():
        labels = _labels(folder / "59_labels.txt")
        table = {0: VOID, **{number: place for place, number in enumerate(labels)}}
        classes = tuple(category_names(_spoken(name)) for name in labels.values())
        read = IndexMask(tuple(table.items()), "numbers of 59_labels.txt")
        files, skipped = pair(photos, lambda path: folder / "59_context_labels" / f"{path.stem}.png")
        return PhotoSet("context-59", classes, files, read, skipped)
    labels = _labels(folder / "labels.txt")
    classes = _set("pascal_context_59")
    place = {entry.names[0]: index for index, entry in enumerate(classes)}
    found = {number: place.get(_SPACED.get(name, name), VOID) for number, name in labels.items()}
    if missing := sorted(set(range(len(classes))) - set(found.values())):
        raise DatasetError(f"{folder / 'labels.txt'} has no {classes[missing[0]].names[0]!r}; copy the data set again")
    files, skipped = pair(photos, lambda path: folder / "trainval" / f"{path.stem}.mat")
    return PhotoSet("context-59", classes, files, MatMask(tuple({0: VOID, **found}.items())), skipped)


def _photos(folder: Path, split: Split) -> list[Path]:
    """Context's photos of a split, which are VOC 2010's."""
    root = _inside(folder, "VOC2010")
    lists = [root / "ImageSets" / kind / f"{split}.txt" for kind in ("SegmentationContext", "Main")]
    chosen = next((path for path in lists if path.is_file()), lists[-1])
    return [root / "JPEGImages" / f"{stem}.jpg" for stem in listed(chosen)]


def _inside(folder: Path, year: str) -> Path:
    """Where JPEGImages lies: in the folder itself, in VOCdevkit's folder of that year, or beside Context's files."""
    places = [folder, folder / year, folder / "VOCdevkit" / year, folder.parent / year]
    for place in places:
        if (place / "JPEGImages").is_dir():
            return place
    raise DatasetError(f"{folder} has no JPEGImages, expected it there or in {year}/; unpack VOC {year[3:]} there")


def _labels(path: Path) -> dict[int, str]:
    """`12: aeroplane` -> {12: "aeroplane"}, in the order of the numbers."""
    text = read_text(path)
    found = {int(number): name.strip() for number, name in re.findall(r"^\s*(\d+)\s*:\s*(\S.*)$", text, re.MULTILINE)}
    if not found:
        raise DatasetError(f"{path} names nothing; expected lines such as 12: aeroplane")
    return dict(sorted(item for item in found.items() if item[0] > 0))


def _spoken(name: str) -> str:
    """Name of one of the 59 in Context's file of them -> the name in our list."""
    name = _SAME.get(name, name)
    return _SPACED.get(name, name)


def _set(name: str) -> tuple[CategoryNames, ...]:
    return tuple(map(category_names, shipped_senses()["sets"][name]))


VOC_20 = PhotoReader("voc-20", ("SegmentationClass", "VOC2012/SegmentationClass"), voc_20)
VOC_21 = PhotoReader("voc-21", ("SegmentationClass", "VOC2012/SegmentationClass"), voc_21)
_CONVERTED = ("SegmentationClassContext", "VOC2010/SegmentationClassContext")
CONTEXT_59 = PhotoReader("context-59", (*_CONVERTED, "59_context_labels", "trainval"), context_59)
CONTEXT_60 = PhotoReader("context-60", (), context_60)  # opened by its name only
CONTEXT_459 = PhotoReader("context-459", ("trainval",), context_459)
