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
    for index in np.unique(prediction.labels).tolist():
        if index < 0:
            continue
        whole = (prediction.labels == index).view(np.uint8)
        count, numbers, stats, _ = cv2.connectedComponentsWithStats(whole, connectivity=8)
        sums = np.bincount(numbers.ravel(), prediction.confidence.ravel(), count)
        for number in (np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable") + 1).tolist():
            x, y, width, height, area = (int(value) for value in stats[number])
            inside = numbers[y : y + height, x : x + width] == number
            box = (x, y, x + width, y + height)
            regions.append(LabelledRegion(index, box, inside, area, float(sums[number] / area)))
    return tuple(regions)


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
    columns = np.zeros((region.mask.shape[1], region.mask.shape[0] + 2), np.int8)
    columns[:, 1:-1] = region.mask.T
    change = np.diff(columns, axis=1)
    column, row = np.nonzero(change == 1)
    starts = (column + x0) * height + row + y0
    column, row = np.nonzero(change == -1)
    ends = (column + x0) * height + row + y0
    apart = starts[1:] != ends[:-1]  # a run that reaches the bottom goes on at the top of the next column
    places = np.empty((int(np.count_nonzero(apart)) + 1, 2), np.int64)
    places[:, 0] = starts[np.concatenate(([True], apart))]
    places[:, 1] = ends[np.concatenate((apart, [True]))]
    counts: list[int] = np.diff(places.ravel(), prepend=0).tolist()
    rest = height * width - int(places[-1, 1])
    return [*counts, rest] if rest else counts
