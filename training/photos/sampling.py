"""Which photo a crop is taken from, and which of its classes it shows: rare classes more often than by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.datasets import SegmentationDataset
from ..pseudo.dataset import PseudoLabelled
from .cache import CachedPhotos

_LEAST_SHARE = 5e-4  # of a photo's pixels that a class must have there to be looked for


@dataclass(frozen=True)
class Draw:
    """A photo to crop."""

    dataset: int
    photo: int  # index in the dataset
    focus: int | None  # class that the crop should show; None: any place


class PhotoSampler:
    """Draws photos of several datasets.

    A share `balance` of the draws first chooses a class, with a chance that grows with the square root of its number
    of photos, and then one of these photos: of two classes, one in 400 photos and the other in 4, the second is drawn
    ten times less often, not a hundred times. The other draws take each photo of a dataset with the same chance.
    Which photos show a class is known of cached datasets alone; of others every photo has the same chance.
    """

    def __init__(self, datasets: Sequence[SegmentationDataset], weights: Sequence[float], balance: float) -> None:
        self._sizes = [len(dataset) for dataset in datasets]
        self.weights = np.asarray(weights) / sum(weights)
        self._balance = balance
        self._showing = [photos_by_class(dataset) for dataset in datasets]

    def draw(self, rng: np.random.Generator) -> Draw:
        """The next photo, of any dataset."""
        return self.draw_from(int(rng.choice(len(self.weights), p=self.weights)), rng)

    def draw_from(self, dataset: int, rng: np.random.Generator) -> Draw:
        """The next photo of one dataset."""
        showing = self._showing[dataset]
        if self._balance and showing and rng.random() < self._balance:
            focus = class_by_chance(showing, 0.5, rng)
            return Draw(dataset, int(rng.choice(showing[focus])), focus)
        return Draw(dataset, int(rng.integers(self._sizes[dataset])), None)


def class_by_chance(
    showing: dict[int, np.ndarray[tuple[int], np.dtype[np.intp]]], power: float, rng: np.random.Generator
) -> int:
    """One of the classes, each with a chance proportional to its number of photos to the power `power`."""
    classes = list(showing)
    chances = np.array([len(showing[index]) for index in classes], np.float64) ** power
    return classes[int(rng.choice(len(classes), p=chances / chances.sum()))]


def photos_by_class(dataset: SegmentationDataset) -> dict[int, np.ndarray[tuple[int], np.dtype[np.intp]]]:
    """Class -> photos that show enough of it; empty where that is not known."""
    if isinstance(dataset, PseudoLabelled) and dataset.base is not None:
        return photos_by_class(dataset.base)  # where the dataset itself has labels
    if not isinstance(dataset, CachedPhotos):
        return {}
    assert dataset.counts is not None
    assert dataset.sizes is not None
    least = _LEAST_SHARE * dataset.sizes[:, 0] * dataset.sizes[:, 1]
    found = {index: np.flatnonzero(column > least) for index, column in enumerate(dataset.counts.T)}
    return {index: photos for index, photos in found.items() if len(photos)}
