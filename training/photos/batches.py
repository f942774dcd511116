"""Crops of several datasets as batches. The n-th crop depends on the seed and n alone, so a resumed run sees the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...bundle.errors import DatasetError
from ...bundle.metrics import IGNORE
from ...data.datasets import SegmentationDataset, TrainingSample
from ..distributed import Ranks
from ..losses.losses import SegmentTarget
from ..losses.matching import BACKGROUND, UNLABELLED
from .augment import AugmentOptions, random_crop

_log = logging.getLogger("ovs_edge.training")
_ATTEMPTS = 20  # unreadable files in a row before the data is given up


@dataclass(frozen=True)
class Batch:
    """Crops, each with the dataset whose names it uses."""

    images: Tensor  # (B, 3, H, W) float32 RGB 0..255
    targets: list[SegmentTarget]
    dataset: list[int]  # index of each image's dataset
    photo: list[int]  # index of each image's photo in its dataset
    skipped: int  # files that could not be read on the way

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        targets = [SegmentTarget(t.segments.to(device), t.classes.to(device)) for t in self.targets]
        return Batch(self.images.to(device), targets, self.dataset, self.photo, self.skipped)

    def members(self) -> dict[int, list[int]]:
        """Dataset -> places of its images."""
        members: dict[int, list[int]] = {}
        for place, owner in enumerate(self.dataset):
            members.setdefault(owner, []).append(place)
        return members


@dataclass(frozen=True)
class _Crop:
    sample: TrainingSample
    dataset: int
    photo: int
    skipped: int


class CropDataset(Dataset[_Crop]):
    """An endless, numbered sequence of crops."""

    def __init__(
        self, datasets: list[SegmentationDataset], weights: list[float], options: AugmentOptions, seed: int
    ) -> None:
        self.datasets, self.options, self.seed = datasets, options, seed
        self.weights = np.asarray(weights) / sum(weights)

    def __getitem__(self, index: int) -> _Crop:
        rng = np.random.default_rng((self.seed, index))
        for attempt in range(_ATTEMPTS):
            which = int(rng.choice(len(self.datasets), p=self.weights))
            dataset = self.datasets[which]
            photo = int(rng.integers(len(dataset)))
            try:
                sample = dataset.load(photo)
            except DatasetError as error:
                _log.warning("skipped: %s", error)
                continue
            return _Crop(random_crop(sample, self.options, rng), which, photo, attempt)
        raise DatasetError(f"{_ATTEMPTS} files in a row could not be read; check the training data")


def collate(crops: list[_Crop]) -> Batch:
    """Stack crops; every class present becomes one segment."""
    images = np.stack([crop.sample.image[..., ::-1] for crop in crops])
    return Batch(
        torch.from_numpy(images).permute(0, 3, 1, 2).float(),
        [to_target(crop.sample) for crop in crops],
        [crop.dataset for crop in crops],
        [crop.photo for crop in crops],
        sum(crop.skipped for crop in crops),
    )


def to_target(sample: TrainingSample) -> SegmentTarget:
    """Class indices and background of a crop -> segments, one per class."""
    present = np.unique(sample.labels)
    present = present[present != IGNORE]
    table = np.full(256, UNLABELLED, np.int64)
    table[present] = np.arange(len(present))
    segments = table[sample.labels]
    if sample.background is not None:
        segments[sample.background & (sample.labels == IGNORE)] = BACKGROUND
    return SegmentTarget(torch.from_numpy(segments), torch.from_numpy(present.astype(np.int64)))


def batches(
    crops: CropDataset, start: int, steps: int, size: int, workers: int, ranks: Ranks | None = None
) -> Iterator[Batch]:
    """Batches `start` … `steps` - 1 of `size` crops; of several processes each gets its equal part of every batch."""
    ranks = ranks or Ranks()
    own = size // ranks.world
    first = ranks.rank * own
    numbers = [step * size + first + place for step in range(start, steps) for place in range(own)]
    loader = DataLoader(
        crops, own, sampler=numbers, num_workers=workers, collate_fn=collate, persistent_workers=False
    )  # fmt: skip
    try:
        yield from loader
    except DatasetError as error:  # a worker's error arrives with its traceback around the message
        raise DatasetError(str(error).rsplit("DatasetError: ", 1)[-1]) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DatasetError(
            f"a process that reads photos died ({str(error).splitlines()[0].strip()}), perhaps for want of memory; go on with "
            "--resume and fewer --workers"
        ) from error
