"""What the readers of data sets give: photos or frames with their truth, and what the classes are called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..bundle.errors import DatasetError
from .images import read_stored
from .mask_files import decode_mask
from .names.category_names import CategoryNames

VOID = -1  # truth of a pixel that is not counted


@dataclass(frozen=True)
class TrueSegment:
    """What the truth says of one segment."""

    label: int  # index of its class
    crowd: bool = False  # a region of many: not to be found, and no false alarm within it


@dataclass(frozen=True)
class CompositeNames(CategoryNames):
    """Names of a class that is several things to a user, such as "handrail or fence": all of them are asked for."""

    label: str = ""  # what results call the class
    defining: int = 1  # so many of the first names define the class; the others are synonyms


@dataclass(frozen=True)
class LabelledFile:
    """Where a photo and its truth lie."""

    image: Path
    mask: Path | None  # None: a frame of a video without labels
    segments: tuple[tuple[int, TrueSegment], ...] = ()  # where a list beside the masks tells what each id is
    background: Path | None = None  # map of the pixels that are known to show none of the classes


def segment_classes(file: LabelledFile) -> list[tuple[int, int]]:
    """(id, class index) of the segments that are labels, in the order of the ids: what a cache of labels depends on."""
    return sorted((key, segment.label) for key, segment in file.segments if not segment.crowd)


@dataclass(frozen=True)
class Truth:
    """What a mask file says."""

    labels: npt.NDArray[np.int32]  # (H, W) class index, VOID where it is not counted
    ids: npt.NDArray[np.int32] | None = None  # (H, W) segment of each pixel, of panoptic data
    segments: dict[int, TrueSegment] = field(default_factory=dict)  # those of `ids` that count
    background: npt.NDArray[np.bool_] | None = None  # (H, W) True: known to be none of the classes; None: not known


MaskReader = Callable[[LabelledFile], Truth]  # reads `mask`; picklable, since worker processes read too


@dataclass(frozen=True)
class LabelledPhoto:
    """One photo with its truth."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR
    truth: Truth
    name: str


@dataclass(frozen=True)
class PhotoSet:
    """The photos of one split of a data set, in a fixed order."""

    name: str
    classes: tuple[CategoryNames, ...]
    files: tuple[LabelledFile, ...]
    read: MaskReader
    skipped: tuple[str, ...] = ()  # what was left out when the folder was listed, and why
    stuff: tuple[bool, ...] | None = None  # of panoptic data: which classes have no instances

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int) -> LabelledPhoto:
        """Read one photo and its truth. Raises `DatasetError`."""
        return load(self.files[index], self.read)

    @property
    def digest(self) -> str:
        """Changes with the files, their order, what their values and segments mean, and the names of the classes.

        Contents of photos and masks are told by size and time.
        """
        meaning = (self.name, [entry.names for entry in self.classes], self.stuff, self.read)
        state = hashlib.sha256(repr(meaning).encode())
        for file in self.files:
            state.update(repr(file.segments).encode())
            for path in (file.image, file.mask, file.background):
                if path is not None:
                    found = path.stat()
                    state.update(f"{path.name} {found.st_size} {found.st_mtime_ns}\n".encode())
        return state.hexdigest()


@dataclass(frozen=True)
class LabelledClip:
    """One sequence, its frames in order."""

    name: str
    frames: tuple[LabelledFile, ...]


@dataclass(frozen=True)
class VideoSet:
    """Sequences on which a data set is evaluated; frames are read when they are needed."""

    name: str
    classes: tuple[CategoryNames, ...]
    clips: tuple[LabelledClip, ...]
    read: MaskReader
    skipped: tuple[str, ...] = ()  # what was left out when the folder was listed, and why
    stuff: tuple[bool, ...] | None = None  # of panoptic data: which classes have no instances
    novel: tuple[int, ...] = ()  # classes that the data set's authors hold back from training


def load(file: LabelledFile, read: MaskReader) -> LabelledPhoto:
    """Read a photo and its truth, the photo as its mask lies. Raises `DatasetError`."""
    truth = read(file)
    height, width = truth.labels.shape
    image = read_stored(file.image, (height, width))
    if image.shape[:2] != (height, width):
        raise DatasetError(
            f"{file.mask} is {width}x{height}, its photo {image.shape[1]}x{image.shape[0]}; expected the same size"
        )
    if file.background is not None:
        truth = replace(truth, background=_read_background(file.background, truth))
    return LabelledPhoto(image, truth, file.image.stem)


def _read_background(path: Path, truth: Truth) -> npt.NDArray[np.bool_]:
    """The map (H, W) of what is none of the classes, without labelled pixels. Raises `DatasetError`."""
    try:
        known = decode_mask(path) != 0
    except DatasetError as error:
        raise DatasetError(f"the background map: {error}") from error
    if known.shape != truth.labels.shape:
        raise DatasetError(
            f"{path} has the shape {known.shape}, its mask {truth.labels.shape}; expected one value a pixel, in the "
            "mask's size"
        )
    return np.asarray(known & (truth.labels == VOID), np.bool_)
