"""A prediction as regions: connected parts of a class, or the segments of panoptic segmentation. They cover all labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ...runtime.inference.prediction import Prediction
from ...runtime.opencv import cv2
from .runs import Runs

Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int32]


@dataclass(frozen=True)
class LabelledRegion:
    """Pixels of one class. The regions of a picture do not overlap."""

    index: int  # of its class
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 lie just outside
    mask: Mask  # (h, w) of the box
    pixels: int
    confidence: float  # mean over its pixels, or the segment's score, 0..1
    counts: str  # its pixels in the picture as COCO's compressed run lengths


def regions_of(prediction: Prediction) -> tuple[LabelledRegion, ...]:
    """In the order of classes, within a class the largest first. Pixels that touch at a corner are connected."""
    if prediction.segment_map is not None:
        ids = prediction.segment_map
        if not prediction.segments:
            return ()
        classes = [segment.index for segment in prediction.segments]
        scores = [segment.score for segment in prediction.segments]
        return _regions(Runs.of(ids - 1), ids, range(1, len(classes) + 1), classes, scores)
    runs = Runs.of(prediction.labels)
    if not len(runs.starts):
        return ()
    numbers, classes = _connected(prediction.labels, np.flatnonzero(np.bincount(runs.values)).tolist())
    of_run = numbers[runs.rows, runs.columns] - 1
    pixels = np.bincount(of_run, runs.ends - runs.starts, len(classes))
    means = np.bincount(of_run, runs.sums(prediction.confidence), len(classes)) / pixels
    order = np.lexsort((-pixels, np.array(classes)))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    runs = replace(runs, values=place[of_run])
    return _regions(runs, numbers, (order + 1).tolist(), [classes[part] for part in order], means[order].tolist())


def _connected(labels: Integers, present: Sequence[int]) -> tuple[Integers, list[int]]:
    """The number (H, W) of the connected part that a pixel belongs to, 0 for none, and the class of parts 1, 2, 3, …"""
    numbers = np.zeros_like(labels)
    classes: list[int] = []
    for index in present:
        whole = labels == index
        x, y, wide, high = cv2.boundingRect(whole.view(np.uint8))
        box = np.s_[y : y + high, x : x + wide]
        inside = np.ascontiguousarray(whole[box])
        # OpenCV's statistics of the parts would take five times as long as their numbers.
        count, found = cv2.connectedComponents(inside.view(np.uint8), connectivity=8)
        np.copyto(numbers[box], found + len(classes), where=inside)
        classes += [index] * (count - 1)
    return numbers, classes


def _regions(
    runs: Runs, numbers: Integers, shown: Sequence[int], classes: Sequence[int], confidences: Sequence[float]
) -> tuple[LabelledRegion, ...]:
    """Region n has the runs of the value n, and its pixels have the number `shown[n]` in `numbers` (H, W)."""
    groups = runs.grouped()
    columns = zip(shown, classes, confidences, groups.boxes(), groups.pixels(), groups.coco_counts(), strict=True)
    return tuple(
        LabelledRegion(index, box, numbers[box[1] : box[3], box[0] : box[2]] == number, pixels, confidence, counts)
        for number, index, confidence, box, pixels, counts in columns
    )


def label_map(regions: tuple[LabelledRegion, ...], size: tuple[int, int], nothing: int) -> npt.NDArray[np.int32]:
    """Class index (H, W) of every pixel, `nothing` where there is no region."""
    labels = np.full(size, nothing, np.int32)
    for region in regions:
        x0, y0, x1, y1 = region.box
        labels[y0:y1, x0:x1][region.mask] = region.index
    return labels
