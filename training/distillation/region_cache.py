"""The teacher's vectors of all training regions, computed once and kept on disk.

Regions are cropped from the photos as they are, so that every crop and mirror image of the augmentation uses the same
vector. The photos are kept in shards of `_SHARD`: an interrupted run loses at most one, and several processes share the
work. A shard is named after all that decides its vectors: the teacher, and its photos and masks by path, size and time
of change.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ...bundle.errors import CheckpointError, DatasetError
from ...bundle.files import replacing
from ...data.datasets import SegmentationDataset
from ...data.labelled import segment_classes
from ..distributed import Ranks, barrier
from ..photos.cache import identity
from .clip_dense import ClipDenseTeacher
from .regions import GREY, LEAST_PIXELS, class_regions
from .teachers import Teacher

_log = logging.getLogger("ovs_edge.training")
_SHARD = 256  # photos
_BATCH = 32  # regions the teacher sees at once
_CLASSES = 256  # a class index fits an 8-bit mask


@dataclass(frozen=True)
class RegionVectors:
    """Unit vectors of the regions of several datasets, found by dataset, photo and class."""

    keys: npt.NDArray[np.int64]  # (N,) ascending, see `_key`
    vectors: npt.NDArray[np.float16]  # (N, D)
    digest: str  # of the teacher

    @property
    def dim(self) -> int:
        """D."""
        return int(self.vectors.shape[1])

    def lookup(self, dataset: int, photo: int, classes: npt.NDArray[np.int64]) -> torch.Tensor:
        """Vectors (T, D) float32 of the classes (T,) in a photo; a zero row for a region the teacher did not see."""
        wanted = _key(dataset, photo, np.asarray(classes, np.int64))
        found = np.zeros((len(wanted), self.dim), np.float32)
        if len(self.keys):
            places = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
            hits = self.keys[places] == wanted
            found[hits] = self.vectors[places[hits]]
        return torch.from_numpy(found)


@dataclass(frozen=True)
class _Shard:
    keys: npt.NDArray[np.int64]  # (N,) place of the photo in the shard, and its class
    vectors: npt.NDArray[np.float16]  # (N, D)


def teach_regions(
    teacher: Teacher | ClipDenseTeacher,
    datasets: list[SegmentationDataset],
    folder: Path,
    on_photos: Callable[[int], None] = lambda count: None,
    ranks: Ranks | None = None,
    device: torch.device | None = None,
) -> RegionVectors:
    """Vectors of every region of the datasets, from the cache in `folder` as far as it has them.

    `on_photos` is called with the number of photos done. A photo that cannot be read is logged and its regions are
    unknown. Raises `CheckpointError` when the cache cannot be written.
    """
    ranks, device = ranks or Ranks(), device or torch.device("cpu")
    work = [
        (index, start, folder / teacher.digest[:16] / f"{_fingerprint(dataset, start, teacher)}.npz")
        for index, dataset in enumerate(datasets)
        for start in range(0, len(dataset), _SHARD)
    ]
    for index, start, path in work[ranks.rank :: ranks.world]:
        if _read(path) is not None:
            on_photos(min(_SHARD, len(datasets[index]) - start))
        else:
            _write(path, _teach(teacher, datasets[index], start, on_photos, device))
    barrier()
    keys, vectors = [], []
    for index, start, path in work:
        shard = _read(path)
        if shard is None:  # a folder that the machines of a run do not share
            shard = _teach(teacher, datasets[index], start, on_photos, device)
            _write(path, shard)
        keys.append(_key(index, start, 0) + shard.keys)
        vectors.append(shard.vectors)
    every = np.concatenate(keys)
    order = np.argsort(every)
    return RegionVectors(every[order], np.concatenate(vectors)[order], teacher.digest)


def _key(dataset: int, photo: int, classes: npt.NDArray[np.int64] | int) -> npt.NDArray[np.int64]:
    return np.asarray((dataset << 40) + photo * _CLASSES + classes, np.int64)


def _teach(
    teacher: Teacher | ClipDenseTeacher,
    dataset: SegmentationDataset,
    start: int,
    on_photos: Callable[[int], None],
    device: torch.device,
) -> _Shard:
    keys: list[int] = []
    crops: list[npt.NDArray[np.uint8]] = []
    vectors: list[npt.NDArray[np.float16]] = []

    def encode() -> None:
        assert not isinstance(teacher, ClipDenseTeacher)
        batch = torch.from_numpy(np.stack(crops)[..., ::-1].copy()).permute(0, 3, 1, 2).float()
        vectors.append(teacher.encode(batch.to(device)).cpu().numpy().astype(np.float16))
        crops.clear()

    for photo in range(start, min(start + _SHARD, len(dataset))):
        try:
            sample = dataset.load(photo)
            if isinstance(teacher, ClipDenseTeacher):  # sees the photo as a whole
                for index, vector in teacher.regions(sample):
                    keys.append((photo - start) * _CLASSES + index)
                    vectors.append(vector[None])
                on_photos(1)
                continue
            for index, crop in class_regions(sample, teacher.size):
                keys.append((photo - start) * _CLASSES + index)
                crops.append(crop)
                if len(crops) == _BATCH:
                    encode()
        except DatasetError as error:
            _log.warning("not taught: %s", error)
        on_photos(1)
    if crops:
        encode()
    return _Shard(np.array(keys, np.int64), np.concatenate([np.empty((0, teacher.dim), np.float16), *vectors]))


def _fingerprint(dataset: SegmentationDataset, start: int, teacher: Teacher | ClipDenseTeacher) -> str:
    content = [
        [identity(entry.image), identity(entry.mask), segment_classes(entry)]
        for entry in dataset.entries[start : start + _SHARD]
    ]
    key = [content, dataset.meaning, teacher.digest, teacher.size, GREY, LEAST_PIXELS]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]


def _read(path: Path) -> _Shard | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            shard = _Shard(file["keys"], file["vectors"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # absent or damaged: taught again
    return shard if len(shard.keys) == len(shard.vectors) and shard.vectors.ndim == 2 else None


def _write(path: Path, shard: _Shard) -> None:
    content = io.BytesIO()
    np.savez(content, keys=shard.keys, vectors=shard.vectors)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, str(os.getpid())) as work:
            work.write_bytes(content.getvalue())
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path} ({error}); free some space or choose another folder with --region-cache"
        ) from error
