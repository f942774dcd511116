"""Checks of labelled photos before they are trained on, measured on, or calibrated with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..bundle.errors import DatasetError
from ..bundle.metrics import IGNORE
from .labelled import VOID, LabelledFile, MaskReader, PhotoSet, load
from .masks import IndexMask

_UNREADABLE = 20  # masks, with none that can be read, that end a check
_FEW = 4  # masks below which a set may well show one class alone


@dataclass(frozen=True)
class SetReport:
    """What the files of a photo set hold."""

    readable: int  # photos that can be used
    pixels: npt.NDArray[np.int64]  # (K,) labelled pixels of each class
    unlabelled: int  # pixels without a label
    background: int  # pixels that are known to show none of the classes
    problems: tuple[str, ...]  # a line for each photo that cannot be used


def inspect(
    files: Sequence[LabelledFile],
    read: MaskReader,
    classes: int,
    on_photo: Callable[[], None] = lambda: None,
) -> SetReport:
    """Read every photo and mask, of so many classes; files that cannot be used are listed, not raised."""
    pixels = np.zeros(classes, np.int64)
    readable = unlabelled = background = 0
    problems: list[str] = []
    for file in files:
        try:
            truth = load(file, read).truth
        except DatasetError as error:
            problems.append(str(error))
        else:
            readable += 1
            labels = truth.labels[truth.labels != VOID]
            pixels += np.bincount(labels, minlength=len(pixels))
            unlabelled += truth.labels.size - labels.size
            background += 0 if truth.background is None else int(truth.background.sum())
        on_photo()
    return SetReport(readable, pixels, unlabelled, background, tuple(problems))


def require_labels(photos: PhotoSet) -> str | None:
    """Raise `DatasetError` for masks that say nothing: unusable, without a label, or 0 and 255 for several classes.

    Reads photos with their masks until one shows that the set is sound, usually the first one. Returns what a user
    should know of a set of one class whose masks hold 0 and 255, which may mean two things.
    """
    seen = labelled = failed = partly = 0
    first = ""
    for file in _spread(photos.files):
        try:
            labels = load(file, photos.read).truth.labels
        except DatasetError as error:
            first, failed = first or str(error), failed + 1
            if failed == _UNREADABLE and not seen:
                break
            continue
        seen += 1
        found = labels[labels != VOID]
        labelled += found.size > 0
        partly += _object_may_be_void(photos.read) and 0 < found.size < labels.size
        if found.any():
            return None
        if found.size and len(photos.classes) == 1:
            return _either(photos.name, photos.classes[0].names[0]) if partly and file.background is None else None
    if not seen:
        raise DatasetError(f"{photos.name}: no photo and mask can be used; the first: {first}")
    if not labelled:
        raise DatasetError(
            f"{photos.name}: no pixel of any mask is labelled ({seen} masks read); expected class indices from 0 to "
            f"{len(photos.classes) - 1}"
        )
    if seen >= _FEW or partly:
        raise DatasetError(
            f"{photos.name}: of its {len(photos.classes)} classes only the first, {photos.classes[0].names[0]!r}, has "
            f"pixels in {seen} masks. If the masks are binary, 255 for the object, convert them: ovs-data convert "
            "FOLDER --from binary-masks -o NEW; 255 means not labelled here. Otherwise take the other classes out of the "
            "list"
        )
    return None


def _object_may_be_void(read: MaskReader) -> bool:
    """Whether 0 is the first class and 255 not labelled, so that the object of a binary mask is taken for the latter."""
    return isinstance(read, IndexMask) and {0: 0, IGNORE: VOID}.items() <= dict(read.table).items()


def _either(name: str, label: str) -> str:
    return (
        f"{name}: 0 in its masks is read as {label!r}, 255 as not labelled. If 255 is the object, convert the masks: "
        "ovs-data convert FOLDER --from binary-masks -o NEW"
    )


def _spread(files: tuple[LabelledFile, ...]) -> Iterator[LabelledFile]:
    """All files that have a mask, the first, the last and the middle one before the others."""
    first = [0, len(files) - 1, len(files) // 2] if len(files) > 2 else []
    order = [*dict.fromkeys([*first, *range(len(files))])]
    yield from (files[place] for place in order if files[place].mask is not None)
