"""What a folder of labelled photos holds: classes with their pixels, splits, sizes, and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...bundle.errors import DatasetError
from ..images import is_turned
from ..labelled import VOID
from .convert import load_annotated
from .label_format import FormatSet, LabelFormat


@dataclass(frozen=True)
class ClassShare:
    """How much there is of one class."""

    name: str
    photos: int  # that show it
    pixels: int


@dataclass(frozen=True)
class Inspection:
    """Everything that was found."""

    classes: tuple[ClassShare, ...]
    photos: dict[str, int]  # split, "" where the source knows none -> photos that can be used
    unlabelled: float  # share of all pixels
    background: float  # share of all pixels that are known to show none of the classes
    sizes: tuple[tuple[str, int], ...]  # "640x480" -> photos, the most frequent first
    turned: int  # photos that their EXIF note turns
    duplicates: tuple[str, ...]  # the same photo more than once, across splits first
    problems: tuple[str, ...]  # what cannot be used or was left out, and why

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes without a pixel."""
        return tuple(entry.name for entry in self.classes if not entry.pixels)


def inspect_photos(
    photos: FormatSet, label_format: LabelFormat, on_photo: Callable[[], None] = lambda: None
) -> Inspection:
    """Read every photo and its labels; nothing is raised for a file, it is listed."""
    pixels = np.zeros(len(photos.classes), np.int64)
    shown = np.zeros(len(photos.classes), np.int64)
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    same: dict[bytes, list[str]] = {}
    problems = list(photos.skipped)
    total = unlabelled = background = turned = 0
    for photo in photos.photos:
        on_photo()
        try:
            loaded = load_annotated(photo, label_format)
        except DatasetError as error:
            problems.append(str(error))
            continue
        labels = loaded.painted.labels
        found = np.bincount(labels[labels != VOID], minlength=len(pixels))
        if not found.any():
            problems.append(f"{photo.image.name}: no label")
        pixels += found
        shown += found > 0
        total += labels.size
        unlabelled += int((labels == VOID).sum())
        background += 0 if loaded.painted.background is None else int(loaded.painted.background.sum())
        counts[photo.split or ""] += 1
        sizes[f"{labels.shape[1]}x{labels.shape[0]}"] += 1
        turned += is_turned(photo.image)
        same.setdefault(hashlib.sha256(photo.image.read_bytes()).digest(), []).append(
            f"{photo.split}/{photo.name}" if photo.split else photo.name
        )
    if len(pixels) > 1 and pixels[0] and not pixels[1:].any() and unlabelled and not background:
        problems.append(
            f"only {photos.classes[0]!r}, the first class, has pixels, and the rest is not labelled; if these are binary "
            "masks, 255 for the object, read them with --from binary-masks"
        )
    return Inspection(
        tuple(map(ClassShare, photos.classes, shown.tolist(), pixels.tolist())),
        dict(counts),
        unlabelled / total if total else 0.0,
        background / total if total else 0.0,
        tuple(sizes.most_common()),
        turned,
        tuple(", ".join(names) for names in sorted(same.values(), key=_splits) if len(names) > 1),
        tuple(problems),
    )


def _splits(names: list[str]) -> int:
    return -len({name.partition("/")[0] for name in names if "/" in name})
