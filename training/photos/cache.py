"""Decoded photos and masks of a dataset in one memory-mapped file, so that training does not decode them again and
again.

Beside the pixels it keeps how many of them each class has in each photo, which balanced sampling needs. A cache is
named after all that decides its content: the files by path, size and time of change, how classes are renumbered, and
the longest side.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ...bundle.errors import DatasetError
from ...bundle.files import replacing
from ...data.datasets import SegmentationDataset, TrainingSample
from ...data.labelled import segment_classes

_log = logging.getLogger("ovs_edge.training")
_PROBED = 24  # photos that are decoded to estimate the size of all
_UNUSED_DAYS = 30  # after which a cache is removed
LONGEST = 1024  # pixels; larger photos are shrunk, since no crop needs more


@dataclass(frozen=True)
class CachedPhotos(SegmentationDataset):
    """A dataset whose photos lie decoded in a file."""

    file: Path = Path()
    offsets: npt.NDArray[np.int64] | None = None  # (N,) first byte of each photo in the file, -1 for an unreadable one
    sizes: npt.NDArray[np.int64] | None = None  # (N, 3): height, width, and 1 where a background map follows the mask
    counts: npt.NDArray[np.int64] | None = None  # (N, K) pixels of each class

    def load(self, index: int) -> TrainingSample:
        """The photo and its mask as views of the file; a photo that could not be cached is read from its own files."""
        assert self.offsets is not None
        assert self.sizes is not None
        first = int(self.offsets[index])
        if first < 0:
            return shrink(super().load(index))
        height, width, mapped = self.sizes[index].tolist()
        area = height * width
        content = _mapped(self.file)[first : first + (5 if mapped else 4) * area]
        background = content[4 * area :].reshape(height, width).view(np.bool_) if mapped else None
        return TrainingSample(
            content[: 3 * area].reshape(height, width, 3),
            content[3 * area : 4 * area].reshape(height, width),
            self.entries[index].image.name,
            background,
        )


@lru_cache(maxsize=64)
def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    # One map a process and file: worker processes open their own.
    return np.asarray(np.memmap(path, np.uint8, "r"))


def shrink(sample: TrainingSample, longest: int = LONGEST) -> TrainingSample:
    """The sample with its longer side at most `longest` pixels."""
    height, width = sample.labels.shape
    factor = longest / max(height, width)
    if factor >= 1:
        return sample
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = np.asarray(cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA), np.uint8)

    def nearest(marks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return np.asarray(cv2.resize(marks, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)

    background = None if sample.background is None else nearest(sample.background.astype(np.uint8)) > 0
    return TrainingSample(image, nearest(sample.labels), sample.name, background)


def cache_photos(
    dataset: SegmentationDataset,
    folder: Path,
    most_bytes: int,
    on_photos: Callable[[int], None] = lambda count: None,
) -> SegmentationDataset:
    """`dataset` with its photos cached in `folder`; `dataset` itself where they would take more than `most_bytes`, or
    more than half of the free disk, or where the folder cannot be written, which is logged.

    `on_photos` is called with the number of photos done. Unreadable photos are logged and left out.
    """
    path = folder / f"{dataset.name}-{dataset_fingerprint(dataset)}.photos"
    found = _open(dataset, path)
    if found is not None:
        on_photos(len(dataset))
        with suppress(OSError):
            os.utime(path)  # used today
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _remove_unused(folder)
        if _estimate(dataset) > min(most_bytes, shutil.disk_usage(folder).free // 2):
            return dataset
        _write(dataset, path, on_photos)
    except OSError as error:
        _log.warning(
            "decoded photos cannot be kept in %s (%s); choose another folder with --photo-cache", folder, error
        )
    return _open(dataset, path) or dataset


def identity(path: Path | None) -> list[str | int]:
    """Path, size and modification time of a file: another list means another content."""
    if path is None:
        return []
    try:
        status = path.stat()
    except OSError:  # gone since the folder was listed: loading it will say so
        return [str(path.absolute())]
    return [str(path.absolute()), status.st_size, status.st_mtime_ns]


def dataset_fingerprint(dataset: SegmentationDataset) -> str:
    """Hexadecimal; another one for other photos, masks or class numbers."""
    content = [
        [
            identity(entry.image),
            identity(entry.mask),
            segment_classes(entry),
            identity(entry.background) if entry.background else None,
        ]
        for entry in dataset.entries
    ]
    key = [content, dataset.meaning, len(dataset.classes), LONGEST, 1]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]


def _estimate(dataset: SegmentationDataset) -> int:
    """Bytes of the whole cache, from some of its photos."""
    step = max(1, len(dataset) // _PROBED)
    found = []
    for index in range(0, len(dataset), step):
        with suppress(DatasetError):
            found.append(shrink(dataset.load(index)).labels.size * 5)
    return int(np.mean(found or [0]) * len(dataset))


def _write(dataset: SegmentationDataset, path: Path, on_photos: Callable[[int], None]) -> None:
    offsets = np.full(len(dataset), -1, np.int64)
    sizes = np.zeros((len(dataset), 3), np.int64)
    counts = np.zeros((len(dataset), len(dataset.classes)), np.int64)
    place = 0
    with replacing(path, str(os.getpid())) as work:
        with work.open("wb") as stream:
            for index in range(len(dataset)):
                on_photos(1)
                try:
                    sample = shrink(dataset.load(index))
                except DatasetError as error:
                    _log.warning("not cached: %s", error)
                    continue
                offsets[index] = place
                sizes[index] = *sample.labels.shape, sample.background is not None
                counts[index] = np.bincount(sample.labels.ravel(), minlength=256)[: len(dataset.classes)]
                for part in (sample.image, sample.labels, sample.background):
                    if part is not None:
                        place += stream.write(np.ascontiguousarray(part).tobytes())
        with replacing(_index(path), str(os.getpid())) as index_work, index_work.open("wb") as stream:
            np.savez(stream, offsets=offsets, sizes=sizes, counts=counts, total=np.int64(place))


def _index(path: Path) -> Path:
    return path.with_suffix(".npz")


def _open(dataset: SegmentationDataset, path: Path) -> CachedPhotos | None:
    """The cache in `path`, or None where there is none or a damaged one."""
    try:
        with np.load(_index(path), allow_pickle=False) as file:
            offsets, sizes, counts, total = (file[name] for name in ("offsets", "sizes", "counts", "total"))
        if path.stat().st_size != int(total) or not int(total):
            return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    if offsets.shape != (len(dataset),) or counts.shape != (len(dataset), len(dataset.classes)):
        return None
    own = {field.name: getattr(dataset, field.name) for field in fields(SegmentationDataset)}
    return CachedPhotos(**own, file=path, offsets=offsets, sizes=sizes, counts=counts)


def _remove_unused(folder: Path) -> None:
    """Remove caches that no run has used for long, and parts that a killed run left."""
    now = time.time()
    for pattern, days in (("*.photos", _UNUSED_DAYS), ("*.npz", _UNUSED_DAYS), (".*.photos.*", 1), (".*.npz.*", 1)):
        for path in folder.glob(pattern):
            with suppress(OSError):
                used = path.with_suffix(".photos") if pattern == "*.npz" else path
                if not used.exists() or used.stat().st_mtime < now - days * 86400:
                    path.unlink()
