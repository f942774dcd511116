"""What the readers of data sets give: photos or frames with their truth, and what the classes are called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from ..bundle.errors import DatasetError, require
from ..runtime.capture.photos import read_photo
from ..runtime.opencv import cv2
from .names.category_names import CategoryNames

VOID = -1  # truth of a pixel that is not counted
_UNKNOWN = -2  # a stored value that means nothing


@dataclass(frozen=True)
class TrueSegment:
    """What the truth says of one segment."""

    label: int  # index of its class
    crowd: bool = False  # a region of many: not to be found, and no false alarm within it


@dataclass(frozen=True)
class CompositeNames(CategoryNames):
    """Names of a class that is several things to a user, such as "handrail or fence": it is asked for by all of them."""

    label: str = ""  # what results call the class
    defining: int = 1  # so many of the first names define the class; the others are synonyms


@dataclass(frozen=True)
class LabelledFile:
    """Where a photo and its truth lie."""

    image: Path
    mask: Path | None  # None: a frame of a video that nobody labelled
    segments: tuple[tuple[int, TrueSegment], ...] = ()  # where a list beside the masks tells what each id is


@dataclass(frozen=True)
class Truth:
    """What a mask file says."""

    labels: npt.NDArray[np.int32]  # (H, W) class index, VOID where it is not counted
    ids: npt.NDArray[np.int32] | None = None  # (H, W) segment of each pixel, of panoptic data
    segments: dict[int, TrueSegment] = field(default_factory=dict)  # those of `ids` that count


MaskReader = Callable[[LabelledFile], Truth]  # reads `mask`; picklable, since worker processes read too


@dataclass(frozen=True)
class LabelledPhoto:
    """One photo with its truth."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR
    truth: Truth
    name: str


@dataclass(frozen=True)
class LabelledPhotos:
    """The photos on which a data set is evaluated, in a fixed order."""

    name: str
    classes: tuple[CategoryNames, ...]
    files: tuple[LabelledFile, ...]
    read: MaskReader
    skipped: tuple[str, ...] = ()  # what was left out when the folder was listed, and why
    stuff: tuple[bool, ...] | None = None  # of panoptic data: which classes have no instances

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int) -> LabelledPhoto:
        """Read one photo and its truth. Raises `SourceError`, `DatasetError`."""
        file = self.files[index]
        return load(file, self.read)

    @property
    def digest(self) -> str:
        """Changes with the files, their order, what their values and segments mean, and the names of the classes.

        Contents of photos and masks are told by size and time.
        """
        meaning = (self.name, [entry.names for entry in self.classes], self.stuff, self.read)
        state = hashlib.sha256(repr(meaning).encode())
        for file in self.files:
            state.update(repr(file.segments).encode())
            for path in (file.image, file.mask):
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
class LabelledVideos:
    """Sequences on which a data set is evaluated; frames are read when they are needed."""

    name: str
    classes: tuple[CategoryNames, ...]
    clips: tuple[LabelledClip, ...]
    read: MaskReader
    skipped: tuple[str, ...] = ()  # what was left out when the folder was listed, and why
    stuff: tuple[bool, ...] | None = None  # of panoptic data: which classes have no instances
    novel: tuple[int, ...] = ()  # classes that the data set's authors hold back from training


def load(file: LabelledFile, read: MaskReader) -> LabelledPhoto:
    """Read a photo and its truth, the photo as its mask lies. Raises `SourceError`, `DatasetError`."""
    image = read_stored(file.image)
    truth = read(file)
    if truth.labels.shape != image.shape[:2]:
        image = read_photo(file.image)  # a mask that was drawn on the photo turned upright
    if truth.labels.shape != image.shape[:2]:
        raise DatasetError(
            f"{file.mask} is {truth.labels.shape[1]}x{truth.labels.shape[0]}, its photo {image.shape[1]}x"
            f"{image.shape[0]}; they must have the same size"
        )
    return LabelledPhoto(image, truth, file.image.stem)


def read_stored(path: Path) -> npt.NDArray[np.uint8]:
    """A photo (H, W, 3) BGR as its pixels are stored, not turned as its EXIF says: masks of data sets lie so.

    Raises `SourceError`.
    """
    image = read_photo(path)
    if not _turned(path):
        return image
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    return np.asarray(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flags), np.uint8)


def _turned(path: Path) -> bool:
    """Whether a photo asks to be turned when it is shown."""
    # OpenCV has read it; on notes that are damaged Pillow raises whatever it trips over.
    with suppress(Exception), Image.open(path) as picture:
        if picture.format == "PNG" and "exif" not in picture.info:
            return False  # to look for it behind the pixels would decode them
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1)) != 1
    return False


def read_mask(file: LabelledFile) -> npt.NDArray[np.integer]:
    """A mask's stored values: (H, W) of an index or grey picture of 8 or 16 bits, (H, W, C) of a colour picture."""
    assert file.mask is not None
    try:
        with Image.open(file.mask) as picture:
            mask = np.asarray(picture)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DatasetError(f"cannot decode the mask {file.mask} ({error}); remove it or copy it again") from error
    if not np.issubdtype(mask.dtype, np.integer):
        raise DatasetError(f"{file.mask} holds {mask.dtype} values, expected integers; copy it again")
    return mask


def read_mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file, arrays without axes of length 1. Raises `DatasetError`, `MissingExtraError`."""
    loadmat = require("scipy.io", "train").loadmat
    try:
        variables: dict[str, Any] = loadmat(path, squeeze_me=True)
    except Exception as error:  # on bytes that are no MATLAB file the reader raises whatever it trips over
        raise DatasetError(f"cannot read {path} ({error}); copy it again") from error
    return variables


@dataclass(frozen=True)
class IndexMask:
    """Reads masks with one value a pixel by a table: stored value -> class index or VOID."""

    table: tuple[tuple[int, int], ...]
    about: str  # what the values are, for the error

    def __call__(self, file: LabelledFile) -> Truth:
        """Raises `DatasetError` for a value that the table does not name."""
        mask = read_mask(file)
        if mask.ndim != 2:
            raise DatasetError(f"{file.mask} has {mask.ndim} axes, expected an index mask with one value a pixel")
        return Truth(look_up(mask, dict(self.table), f"{file.mask}", self.about))


def look_up(values: npt.NDArray[np.integer], table: dict[int, int], where: str, about: str) -> npt.NDArray[np.int32]:
    """Class index of every pixel (H, W); raises `DatasetError` for a value that the table does not name."""
    most = max(table)
    line = np.full(most + 2, _UNKNOWN, np.int32)
    line[list(table)] = list(table.values())
    labels = line[np.where((values < 0) | (values > most), most + 1, values)]
    if (labels == _UNKNOWN).any():
        found = int(values[labels == _UNKNOWN][0])
        raise DatasetError(f"{where} holds the value {found}, expected {about}; is it a mask of this data set?")
    return labels


def listed(path: Path) -> list[str]:
    """The entries of a split file, one a line; empty lines and hidden files are no entries. Raises `DatasetError`."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read the list {path} ({error}); copy the data set again") from error
    return [line for line in lines if not line.startswith(".")]


def pair(images: list[Path], mask_of: Callable[[Path], Path]) -> tuple[tuple[LabelledFile, ...], tuple[str, ...]]:
    """Photos with their masks, and what is missing."""
    files, skipped = [], []
    for image in images:
        mask = mask_of(image)
        if not image.is_file():
            skipped.append(f"{image.name}: no such photo")
        elif not mask.is_file():
            skipped.append(f"{image.name}: no mask {mask.name}")
        else:
            files.append(LabelledFile(image, mask))
    return tuple(files), tuple(skipped)
