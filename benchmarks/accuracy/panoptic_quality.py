"""Panoptic quality of images and of clips, counted over matched segments.

PQ: Kirillov et al., Panoptic Segmentation, CVPR 2019. VPQ: Kim et al., Video Panoptic Segmentation, CVPR 2020:
every window of k frames is matched as one image of k times the height, with ids that persist from frame to frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...data.labelled import TrueSegment

Ids = npt.NDArray[np.integer]

NOTHING = 0  # id of a pixel that belongs to no segment; in the truth: not labelled


@dataclass(frozen=True)
class Quality:
    """Quality averaged over classes."""

    pq: float  # 0..1, NaN without a class
    sq: float  # mean IoU of the matched segments
    rq: float  # F1 of finding them
    classes: int  # that have a segment in truth or prediction


@dataclass(frozen=True)
class SegmentCounts:
    """Sums for panoptic quality, of each class; they can be added over images."""

    iou: npt.NDArray[np.float64]  # (K,) of the matched segments
    matched: npt.NDArray[np.int64]  # (K,)
    invented: npt.NDArray[np.int64]  # (K,) predicted segments that match none
    missed: npt.NDArray[np.int64]  # (K,) true segments that none matches

    @classmethod
    def zero(cls, classes: int) -> SegmentCounts:
        """Counts of no image."""
        return cls(np.zeros(classes), *(np.zeros(classes, np.int64) for _ in range(3)))

    def __add__(self, other: SegmentCounts) -> SegmentCounts:
        return SegmentCounts(
            self.iou + other.iou,
            self.matched + other.matched,
            self.invented + other.invented,
            self.missed + other.missed,
        )

    def per_class(self) -> npt.NDArray[np.float64]:
        """PQ of each class (K,), NaN for a class without segments."""
        weight = self.matched + 0.5 * (self.invented + self.missed)
        result: npt.NDArray[np.float64] = np.where(weight > 0, self.iou / np.where(weight > 0, weight, 1), np.nan)
        return result

    def quality(self, which: npt.NDArray[np.bool_] | None = None) -> Quality:
        """Means over the classes that have segments, or over those that are True in `which` (K,)."""
        weight = self.matched + 0.5 * (self.invented + self.missed)
        there = weight > 0 if which is None else (weight > 0) & which
        if not there.any():
            return Quality(float("nan"), float("nan"), float("nan"), 0)
        iou, matched, weight = self.iou[there], self.matched[there], weight[there]
        return Quality(
            float((iou / weight).mean()),
            float((iou / np.maximum(matched, 1)).mean()),
            float((matched / weight).mean()),
            int(there.sum()),
        )


def match_segments(
    truth: Ids, true_segments: Mapping[int, TrueSegment], predicted: Ids, labels: Mapping[int, int], classes: int
) -> SegmentCounts:
    """Match the segments of one image, or of a window of frames.

    `truth` and `predicted` are maps of segment ids from 0, of the same shape: (H, W), or (k, H, W). `true_segments`
    describes each id of the truth, `labels` gives the class index of each predicted id; other ids are no segments. Two
    segments of a class match if their IoU is above 0.5; pixels without truth are not counted. An unmatched predicted
    segment is not a false positive if more than half of it is unlabelled or in a crowd of its class.
    """
    iou = np.zeros(classes)
    matched, invented, missed = (np.zeros(classes, np.int64) for _ in range(3))
    span = int(predicted.max(initial=0)) + 1
    pairs, sizes = np.unique(truth.astype(np.int64) * span + predicted, return_counts=True)
    shared = {(int(pair // span), int(pair % span)): int(size) for pair, size in zip(pairs, sizes, strict=True)}
    true_area: dict[int, int] = {}
    area: dict[int, int] = {}
    excused: dict[int, int] = {}  # pixels of a predicted segment that lie on no truth, or on a crowd of its class
    unlabelled: dict[int, int] = {}
    for (true_id, found), size in shared.items():
        true_area[true_id] = true_area.get(true_id, 0) + size
        area[found] = area.get(found, 0) + size
        segment = true_segments.get(true_id)
        if segment is None:
            unlabelled[found] = unlabelled.get(found, 0) + size
        if segment is None or (segment.crowd and segment.label == labels.get(found)):
            excused[found] = excused.get(found, 0) + size
    met_true, met = set(), set()
    for (true_id, found), size in shared.items():
        segment = true_segments.get(true_id)
        if segment is None or segment.crowd or found not in labels or labels[found] != segment.label:
            continue
        union = true_area[true_id] + area[found] - size - unlabelled.get(found, 0)
        if 2 * size > union:
            iou[segment.label] += size / union
            matched[segment.label] += 1
            met_true.add(true_id)
            met.add(found)
    for true_id, segment in true_segments.items():
        if true_id in true_area and not segment.crowd and true_id not in met_true:
            missed[segment.label] += 1
    for found, label in labels.items():
        if found in area and found not in met and 2 * excused.get(found, 0) <= area[found]:
            invented[label] += 1
    return SegmentCounts(iou, matched, invented, missed)


@dataclass(frozen=True)
class PanopticFrame:
    """Truth and prediction of one frame; a thing keeps its id throughout the clip."""

    truth: Ids  # (H, W)
    true_segments: Mapping[int, TrueSegment]
    predicted: Ids  # (H, W)
    labels: Mapping[int, int]  # predicted id -> class index


def match_window(window: Sequence[PanopticFrame], classes: int) -> SegmentCounts:
    """`match_segments` over a window of consecutive frames."""
    return match_segments(
        np.stack([frame.truth for frame in window]),
        {key: value for frame in window for key, value in frame.true_segments.items()},
        np.stack([frame.predicted for frame in window]),
        {key: value for frame in window for key, value in frame.labels.items()},
        classes,
    )


class SegmentLinker:
    """Gives segments ids that persist through a clip; the runtime numbers the segments of each frame separately.

    A stuff class has one id. A thing takes the id of the thing of its class in the previous frame that it overlaps
    most, each id once, largest overlaps first; other things get new ids. Motion is not modelled.
    """

    def __init__(self, stuff: npt.NDArray[np.bool_]) -> None:
        """`stuff` (K,): classes without instances."""
        self._stuff = stuff
        self._next = len(stuff) + 1  # ids up to K are those of the classes' stuff
        self._before: Ids | None = None
        self._labels: dict[int, int] = {}

    def link(self, ids: Ids, labels: Mapping[int, int]) -> tuple[Ids, dict[int, int]]:
        """Ids (H, W) of the next frame and the class of each -> the same with persistent ids."""
        new: dict[int, int] = {}
        if self._before is not None and self._before.shape == ids.shape:
            span = int(ids.max(initial=0)) + 1
            pairs, sizes = np.unique(self._before.astype(np.int64) * span + ids, return_counts=True)
            for pair in pairs[np.argsort(-sizes, kind="stable")]:
                old, found = int(pair // span), int(pair % span)
                same = found in labels and self._labels.get(old) == labels[found] and not self._stuff[labels[found]]
                if same and found not in new and old not in new.values():
                    new[found] = old
        for found, label in labels.items():
            if self._stuff[label]:
                new[found] = label + 1
            elif found not in new:
                new[found] = self._next
                self._next += 1
        table = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
        for found, final in new.items():
            if found < len(table):
                table[found] = final
        self._before = table[ids]
        self._labels = {final: labels[found] for found, final in new.items()}
        return self._before, self._labels
