"""Exact counts behind mean intersection over union."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IGNORE = 255  # value of an index mask that is not counted


@dataclass(frozen=True)
class IoU:
    """Intersection over union of every class that occurs in truth or prediction."""

    per_class: npt.NDArray[np.float64]  # (K,), NaN where a class occurs in neither
    mean: float  # over the classes that occur in the truth
    pixel_accuracy: float  # correct pixels over counted pixels
    frequency_weighted: float  # IoU, weighted by the classes' shares of the truth


def confusion(
    truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: int
) -> npt.NDArray[np.int64]:
    """Count (truth, prediction) pairs of two (H, W) index maps: (K, K + 1), the last column is "none of them".

    Truth outside 0..K-1 is not counted; a prediction outside 0..K-1 counts as wrong.
    """
    counted = (truth >= 0) & (truth < classes)
    guess = predicted[counted].astype(np.int64)
    guess = np.where((guess >= 0) & (guess < classes), guess, classes)
    pairs = truth[counted].astype(np.int64) * (classes + 1) + guess
    return np.bincount(pairs, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def intersection_over_union(counts: npt.NDArray[np.int64]) -> IoU:
    """IoU from summed confusion counts (K, K + 1); the mean runs over classes present in the truth."""
    classes = len(counts)
    correct = counts[np.arange(classes), np.arange(classes)].astype(np.float64)
    truth = counts.sum(1)
    union = truth + counts[:, :classes].sum(0) - correct
    per_class = np.where(union > 0, correct / np.maximum(union, 1), np.nan)
    present = truth > 0
    mean = float(per_class[present].mean()) if present.any() else float("nan")
    total = max(1, int(counts.sum()))
    weighted = float((truth[present] * per_class[present]).sum() / total)
    return IoU(per_class, mean, float(correct.sum() / total), weighted)
