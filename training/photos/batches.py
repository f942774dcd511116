"""Crops of several datasets as batches. The n-th crop depends on the seed and n alone, so a resumed run sees the
same."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...bundle.errors import DatasetError
from ...bundle.metrics import IGNORE
from ...data.datasets import SegmentationDataset, TrainingSample
from ..distributed import Ranks
from ..interrupts import begin_reading
from ..losses.losses import SegmentTarget
from ..losses.matching import BACKGROUND, UNLABELLED
from .augment import AugmentOptions, mosaic, random_window, recolour
from .cache import shrink
from .paste import Paster
from .sampling import Draw, PhotoSampler
from .shared_memory import usable_workers

_log = logging.getLogger("ovs_edge.training")
_ATTEMPTS = 20  # unreadable files in a row before the data is given up


@dataclass(frozen=True)
class Batch:
    """Crops, each with the dataset whose names it uses."""

    images: Tensor  # (B, 3, H, W) float32 RGB 0..255
    targets: list[SegmentTarget]
    dataset: list[int]  # index of each image's dataset
    photos: list[tuple[int, ...]]  # the photos in its dataset that each image is made of
    skipped: int  # files that could not be read on the way

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        targets = [SegmentTarget(t.segments.to(device), t.classes.to(device)) for t in self.targets]
        return Batch(self.images.to(device), targets, self.dataset, self.photos, self.skipped)

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
    photos: tuple[int, ...]
    skipped: int


class CropDataset(Dataset[_Crop]):
    """An endless, numbered sequence of crops."""

    def __init__(
        self, datasets: list[SegmentationDataset], weights: list[float], options: AugmentOptions, seed: int
    ) -> None:
        """`options.balance` and `options.paste` need cached datasets; of others every photo has the same chance, and
        nothing is pasted from them."""
        self.datasets, self.options, self.seed = datasets, options, seed
        self.sampler = PhotoSampler(datasets, weights, options.balance)
        self._paster = Paster(datasets, options) if options.paste else None

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """Share of each dataset."""
        return self.sampler.weights

    def __getitem__(self, index: int) -> _Crop:
        rng, options = np.random.default_rng((self.seed, index)), self.options
        skipped = 0
        while True:
            draw = self.sampler.draw(rng)
            try:
                if options.mosaic and rng.random() < options.mosaic:
                    crop, photos = self._mosaic(draw, rng)
                else:
                    sample, photos = shrink(self.datasets[draw.dataset].load(draw.photo)), (draw.photo,)
                    crop = random_window(sample, options, rng, (options.crop, options.crop), focus=draw.focus)
            except DatasetError as error:
                _log.warning("skipped: %s", error)
                skipped += 1
                if skipped == _ATTEMPTS:
                    raise DatasetError(
                        f"{_ATTEMPTS} files in a row could not be read; check the training data"
                    ) from error
                continue
            if self._paster is not None and rng.random() < options.paste:
                crop = self._paster.paste(crop, draw.dataset, rng)
            return _Crop(recolour(crop, options, rng), draw.dataset, photos, skipped)

    def _mosaic(self, first: Draw, rng: np.random.Generator) -> tuple[TrainingSample, tuple[int, ...]]:
        """Windows of four photos of one dataset, smaller than alone, and the photos."""
        crop = self.options.crop
        top, left = (round(crop * float(rng.uniform(0.35, 0.65))) for _ in range(2))
        draws = [first, *(self.sampler.draw_from(first.dataset, rng) for _ in range(3))]
        sizes = [(height, width) for height in (top, crop - top) for width in (left, crop - left)]
        parts = [
            random_window(
                shrink(self.datasets[draw.dataset].load(draw.photo)),
                self.options,
                rng,
                size,
                focus=draw.focus,
                zoom=0.7,
            )
            for draw, size in zip(draws, sizes, strict=True)
        ]
        return mosaic(parts, (top, left)), tuple(draw.photo for draw in draws)


def collate(crops: list[_Crop]) -> Batch:
    """Stack crops; every class present becomes one segment."""
    images = np.stack([crop.sample.image[..., ::-1] for crop in crops])
    return Batch(
        torch.from_numpy(images).permute(0, 3, 1, 2).float(),
        [to_target(crop.sample) for crop in crops],
        [crop.dataset for crop in crops],
        [crop.photos for crop in crops],
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
    workers = usable_workers(workers, own, crops.options.crop)
    loader = DataLoader(
        crops, own, sampler=numbers, num_workers=workers, collate_fn=collate, persistent_workers=False,
        worker_init_fn=begin_reading,
    )  # fmt: skip
    try:
        yield from loader
    except DatasetError as error:  # a worker's error arrives with its traceback around the message
        raise DatasetError(str(error).rsplit("DatasetError: ", 1)[-1]) from error
    except RuntimeError as error:
        raise lost_reader(error) or error from error
    except (EOFError, ConnectionError) as error:  # it died while it handed a batch over
        raise LostReaderError(_lost(type(error).__name__)) from error


class LostReaderError(DatasetError):
    """A process that reads photos died."""


def lost_reader(error: RuntimeError) -> LostReaderError | None:
    """What torch's error says of a process that read photos, None where it says something else.

    torch raises it wherever the main process is, from a signal handler.
    """
    if "DataLoader worker" not in str(error):
        return None
    return LostReaderError(_lost(str(error).splitlines()[0].strip()))


def _lost(reason: str) -> str:
    return (
        f"a process that reads photos died ({reason}), perhaps for lack of memory; "
        "continue with --resume and fewer --workers"
    )
