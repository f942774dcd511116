"""Photos with named segments, from the two layouts people have: COCO panoptic, and index masks beside a class list.

Reading needs no torch. A file that cannot be used is skipped, counted and named, so that no long run dies of it.

A folder with index masks may also hold `background/`: 1-bit maps, set where a pixel is known to show none of the names
of `classes.json`. In `masks/` such a pixel is 255 like one that nobody labelled; only the map tells the two apart.

    coco_panoptic/                                  folder/
      annotations/panoptic_{train,val}2017.json       classes.json          ["sky", "tree|bush", …]
      annotations/panoptic_{train,val}2017/*.png      images/{train,val}/*.jpg
      {train,val}2017/*.jpg                           masks/{train,val}/*.png   class index, 255 = not labelled
                                                      background/{train,val}/*.png   optional, non-zero = none of them
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ..bundle.errors import DatasetError
from ..bundle.metrics import IGNORE
from .names.category_names import CategoryNames, category_names

Split = Literal["train", "val"]
_MARKS = ((b"\xff\xd8", b"\xff\xd9"), (b"\x89PNG", b"IEND"))  # how a whole JPEG or PNG begins and ends
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class TrainingSample:
    """One photo with its classes."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR
    labels: npt.NDArray[np.uint8]  # (H, W) class index, 255 = not labelled
    name: str
    background: npt.NDArray[np.bool_] | None = None  # (H, W) True: none of the classes; None: nothing is known of that


@dataclass(frozen=True)
class _Entry:
    image: Path
    mask: Path
    segments: dict[int, int] = field(default_factory=dict)  # COCO: segment id -> class index
    crowds: dict[int, int] = field(default_factory=dict)  # COCO: the same of regions of many, which are not labels
    background: Path | None = None  # map of the pixels that show none of the classes


@dataclass(frozen=True)
class SegmentationDataset:
    """Files of one split and the names of its classes."""

    name: str
    classes: tuple[CategoryNames, ...]
    entries: tuple[_Entry, ...]
    skipped: tuple[str, ...]  # why files were left out when the folder was listed
    relabel: tuple[int, ...] = ()  # stored class index -> class index, 255 = not labelled; empty: as stored
    things: tuple[bool, ...] | None = None  # COCO: which of the classes stored have instances

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def digest(self) -> str:
        """Hexadecimal; differs when the classes as training knows them or the photos by name do, wherever they lie."""
        classes = [[category.names, category.related, category.diverse] for category in self.classes]
        files = [[entry.image.name, entry.mask.name] for entry in self.entries]
        maps = sum(entry.background is not None for entry in self.entries)
        content = [self.name, classes, len(files), files, self.relabel, *([maps] if maps else [])]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def load(self, index: int) -> TrainingSample:
        """Read one photo and its mask; raises `DatasetError` naming the file."""
        entry = self.entries[index]
        labels = self._labels(entry)
        image = _read_photo(entry.image, labels.shape)
        if self.relabel:
            table = np.full(256, IGNORE, np.uint8)
            table[: len(self.relabel)] = self.relabel
            labels = table[labels]
        if labels.shape != image.shape[:2]:
            raise DatasetError(
                f"{entry.mask} is {labels.shape[1]}x{labels.shape[0]}, its photo {image.shape[1]}x{image.shape[0]}; "
                "they must have the same size"
            )
        background = None if entry.background is None else _read_background(entry.background, labels)
        return TrainingSample(image, labels, entry.image.name, background)

    def _labels(self, entry: _Entry) -> npt.NDArray[np.uint8]:
        try:
            with Image.open(entry.mask) as picture:
                mask = np.asarray(picture)
        except Exception as error:  # see `_read_photo`
            raise DatasetError(f"cannot decode the mask {entry.mask} ({error}); remove it or copy it again") from error
        if entry.segments:
            if mask.ndim != 3 or mask.shape[2] < 3:
                raise DatasetError(f"{entry.mask} is not an RGB image, expected segment ids in its colours")
            ids = mask[..., :3].astype(np.int64) @ np.array([1, 256, 65536])
            labels = np.full(ids.shape, IGNORE, np.uint8)
            for segment, index in entry.segments.items():
                labels[ids == segment] = index
            return labels
        if mask.ndim != 2:
            raise DatasetError(f"{entry.mask} has {mask.ndim} axes, expected an index mask with one value a pixel")
        stored = len(self.relabel or self.classes)
        unknown = np.unique(mask[(mask >= stored) & (mask != IGNORE)])
        if len(unknown):
            raise DatasetError(
                f"{entry.mask} holds the class index {int(unknown[0])}, classes.json names 0 to {stored - 1}"
            )
        return mask.astype(np.uint8)


def _read_background(path: Path, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """The map (H, W) of what is none of the classes, without labelled pixels. Raises `DatasetError`."""
    try:
        with Image.open(path) as picture:
            known = np.asarray(np.asarray(picture) != 0, np.bool_)
    except Exception as error:  # see `_read_photo`
        raise DatasetError(f"cannot decode the background map {path} ({error}); remove it or copy it again") from error
    if known.shape != labels.shape:
        raise DatasetError(
            f"{path} has the shape {known.shape}, its mask {labels.shape}; expected one value a pixel, in the mask's size"
        )
    return np.asarray(known & (labels == IGNORE), np.bool_)


def _read_photo(path: Path, size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """BGR (H, W, 3) as stored, as masks are, whatever the camera noted of its position; turned by that note only where
    the mask has that `size`. Raises `DatasetError`."""
    try:
        content = path.read_bytes()
        # OpenCV gives a picture for a photo whose end is missing, grey from there on. Pillow tells, at the price of
        # decoding it once more, so only those are asked about that do not end as they should.
        if not any(content.startswith(start) and end in content[-32:] for start, end in _MARKS):
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
        packed = np.frombuffer(content, np.uint8)
        image = cv2.imdecode(packed, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is not None and image.shape[:2] != size == image.shape[1::-1]:
            image = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    # On bytes that are no picture decoders raise whatever they trip over: a size in a damaged header is one that OpenCV
    # asserts, or a bomb to Pillow, and neither's error is an OSError or a ValueError.
    except Exception as error:
        raise DatasetError(f"cannot decode the photo {path} ({error}); remove it or copy it again") from error
    if image is None:
        raise DatasetError(f"cannot decode the photo {path}; remove it or copy it again")
    return np.asarray(image, np.uint8)


def open_dataset(folder: Path, split: Split) -> SegmentationDataset:
    """Recognise the layout and list the split; raises `DatasetError` when there is nothing to read."""
    if not folder.is_dir():
        raise DatasetError(f"no folder {folder}; expected COCO panoptic data, or images/, masks/ and classes.json")
    if (folder / "classes.json").is_file():
        dataset = _open_index_masks(folder, split)
    elif (folder / "annotations" / f"panoptic_{split}2017.json").is_file():
        dataset = _open_coco_panoptic(folder, split)
    else:
        raise DatasetError(
            f"{folder} has neither classes.json nor annotations/panoptic_{split}2017.json; expected one of the layouts "
            "COCO panoptic, or images/, masks/ and classes.json"
        )
    if not dataset.entries:
        raise DatasetError(f"{folder}: no photo with a mask in its {split} split ({len(dataset.skipped)} skipped)")
    return dataset


def _open_index_masks(folder: Path, split: Split) -> SegmentationDataset:
    names = _read_json(folder / "classes.json")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise DatasetError(f"{folder / 'classes.json'} must be a list of names, in the order of the mask's indices")
    classes = _classes(names, folder / "classes.json")
    masks, backgrounds = (
        {path.stem: path for path in (folder / kind / split).glob("*.png")} for kind in ("masks", "background")
    )
    entries, skipped = [], []
    for image in sorted((folder / "images" / split).glob("*")):
        if image.suffix.lower() not in _SUFFIXES:
            continue
        if image.stem in masks:
            entries.append(_Entry(image, masks[image.stem], background=backgrounds.get(image.stem)))
        else:
            skipped.append(f"{image.name}: no mask masks/{split}/{image.stem}.png")
    return SegmentationDataset(folder.name, classes, tuple(entries), tuple(skipped))


def _open_coco_panoptic(folder: Path, split: Split) -> SegmentationDataset:
    path = folder / "annotations" / f"panoptic_{split}2017.json"
    raw = _read_json(path)
    entries, skipped = [], []
    try:
        order = {category["id"]: index for index, category in enumerate(raw["categories"])}
        classes = _classes([category["name"] for category in raw["categories"]], path)
        things = tuple(bool(category.get("isthing", True)) for category in raw["categories"])
        photos = {image["id"]: image["file_name"] for image in raw["images"]}
        for annotation in raw["annotations"]:
            segments: dict[int, int] = {}
            crowds: dict[int, int] = {}
            for segment in annotation["segments_info"]:
                kind = crowds if segment.get("iscrowd") else segments
                kind[segment["id"]] = order[segment["category_id"]]
            image = folder / f"{split}2017" / photos[annotation["image_id"]]
            mask = path.with_suffix("") / annotation["file_name"]
            if not segments:
                skipped.append(f"{image.name}: empty annotation")
            elif not image.is_file() or not mask.is_file():
                skipped.append(f"{image.name}: photo or mask is missing")
            else:
                entries.append(_Entry(image, mask, segments, crowds))
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path} is not COCO panoptic: {type(error).__name__} {error}") from error
    return SegmentationDataset(folder.name, classes, tuple(entries), tuple(skipped), things=things)


def _classes(names: list[Any], path: Path) -> tuple[CategoryNames, ...]:
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


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path} ({error}); expected JSON") from error
