"""Mean IoU of a deployed bundle: exact pixel counts, through the runtime's own preprocessing and session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ovs_edge.bundle.metrics import confusion, intersection_over_union
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.training.datasets import SegmentationDataset
from ovs_edge.training.names import category_names
from ovs_edge.training.splits import Split, SplitScore, score


@dataclass(frozen=True)
class AccuracyResult:
    """Accuracy on one split."""

    dataset: str
    photos: int
    classes: int  # all of them compete
    miou: float  # mean over the classes that occur in the truth
    pixel_accuracy: float  # of labelled pixels
    per_class: dict[str, float | None]  # IoU, None where a class occurs in neither truth nor prediction
    split: SplitScore | None = None  # mean IoU of the seen and the unseen classes, when they were told apart


def measure_accuracy(
    segmenter: Segmenter,
    dataset: SegmentationDataset,
    on_photo: Callable[[int, int], None] = lambda done, total: None,
    split: Split | None = None,
) -> AccuracyResult:
    """Run every photo at its own size. The segmenter must have no background and no threshold: every pixel counts."""
    labels = [entry.names[0] for entry in dataset.classes]
    segmenter.set_classes(labels)
    # Two categories of a dataset may share a plain name ("table"); they are one class to a user, and one here.
    order = {label: index for index, label in enumerate(segmenter.asked.labels)}
    table = np.full(256, 255, np.uint8)
    table[: len(labels)] = [order[label] for label in labels]
    counts = np.zeros((len(order), len(order) + 1), np.int64)
    for index in range(len(dataset)):
        sample = dataset.load(index)
        prediction = segmenter.predict(sample.image)
        counts += confusion(table[sample.labels], prediction.labels, len(order))
        on_photo(index + 1, len(dataset))
    result = intersection_over_union(counts)
    per_class = {
        label: None if np.isnan(value) else round(float(value), 4)
        for label, value in zip(order, result.per_class, strict=True)
    }
    apart = score(counts, tuple(map(category_names, order)), split) if split is not None else None
    return AccuracyResult(dataset.name, len(dataset), len(order), result.mean, result.pixel_accuracy, per_class, apart)
