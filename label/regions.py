"""A prediction as regions: connected parts of a class, or the segments of panoptic segmentation. They cover all labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..runtime.inference.prediction import Prediction
from ..runtime.opencv import cv2

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledRegion:
    """Pixels of one class. The regions of a picture do not overlap."""

    index: int  # of its class
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 lie just outside
    mask: Mask  # (h, w) of the box
    pixels: int
    confidence: float  # mean over its pixels, or the segment's score, 0..1


def regions_of(prediction: Prediction) -> tuple[LabelledRegion, ...]:
    """In the order of classes, within a class the largest first. Pixels that touch at a corner are connected."""
    if prediction.segment_map is not None:
        return tuple(
            _region(prediction.segment_map == segment.id, segment.index, segment.box, segment.score)
            for segment in prediction.segments
        )
    regions: list[LabelledRegion] = []
    # Counting is faster than sorting, which np.unique does.
    present = np.flatnonzero(np.bincount(prediction.labels.ravel() + 1)[1:])
    for index in present.tolist():
        regions += _connected(prediction, index)
    return tuple(regions)


def _connected(prediction: Prediction, index: int) -> list[LabelledRegion]:
    """The connected parts of one class."""
    whole = prediction.labels == index
    left, top, width, height = cv2.boundingRect(whole.view(np.uint8))
    inside = np.ascontiguousarray(whole[top : top + height, left : left + width])
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8), connectivity=8)
    scores = prediction.confidence[top : top + height, left : left + width][inside]
    sums = np.bincount(numbers[inside], scores, count)
    regions = []
    for number in (np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1).tolist():
        x, y, wide, high, area = stats[number].tolist()
        mask = numbers[y : y + high, x : x + wide] == number
        box = (left + x, top + y, left + x + wide, top + y + high)
        regions.append(LabelledRegion(index, box, mask, area, float(sums[number] / area)))
    return regions


def _region(whole: Mask, index: int, box: tuple[int, int, int, int], score: float) -> LabelledRegion:
    x0, y0, x1, y1 = box
    inside = np.ascontiguousarray(whole[y0:y1, x0:x1])
    return LabelledRegion(index, box, inside, int(np.count_nonzero(inside)), score)


def label_map(regions: tuple[LabelledRegion, ...], size: tuple[int, int], nothing: int) -> npt.NDArray[np.int32]:
    """Class index (H, W) of every pixel, `nothing` where there is no region."""
    labels = np.full(size, nothing, np.int32)
    for region in regions:
        x0, y0, x1, y1 = region.box
        labels[y0:y1, x0:x1][region.mask] = region.index
    return labels


def run_lengths(region: LabelledRegion, size: tuple[int, int]) -> list[int]:
    """COCO's run lengths of a region in a picture (H, W): down the columns, in turn outside and inside."""
    height, width = size
    x0, y0, _, _ = region.box
    deep = region.mask.shape[0] + 2
    columns = np.zeros((region.mask.shape[1], deep), np.bool_)  # each between two pixels outside
    columns[:, 1:-1] = region.mask.T
    flat = columns.ravel()
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]) + 1, deep)
    places = (column + x0) * height + row + (y0 - 1)  # where runs start and end, in turn
    joined = np.flatnonzero(places[1:-1:2] == places[2::2])  # one reaches the bottom, the next begins at the top
    if joined.size:
        places = np.delete(places, np.concatenate((2 * joined + 1, 2 * joined + 2)))
    counts: list[int] = np.diff(places, prepend=0).tolist()
    rest = height * width - int(places[-1])
    return [*counts, rest] if rest else counts
