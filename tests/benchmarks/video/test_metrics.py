"""Metrics of accuracy and video: by hand, and against other implementations on real masks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from ovs_edge.benchmarks.accuracy.boundary import boundary_counts, boundary_iou, outline
from ovs_edge.benchmarks.accuracy.panoptic_quality import (
    PanopticFrame,
    SegmentCounts,
    SegmentLinker,
    TrueSegment,
    match_segments,
    match_window,
)
from ovs_edge.benchmarks.video.consistency import Consistency, ConsistencyCounter
from ovs_edge.bundle.metrics import confusion, intersection_over_union

DATA = Path(__file__).parents[4] / "shared" / "data"
Labels = npt.NDArray[np.int32]


def _real_masks(count: int = 4) -> list[Labels]:
    paths = sorted((DATA / "camvid/masks/val").glob("*.png"))[:count]
    if len(paths) < count:
        pytest.skip(f"no masks under {DATA}")
    masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.int32) for path in paths]
    return [np.where(mask == 255, -1, mask)[::2, ::2] for mask in masks]


def _guess(truth: Labels, seed: int, classes: int = 11) -> Labels:
    """A prediction that is the truth moved a little, with blocks of another class."""
    rng = np.random.default_rng(seed)
    guess = np.roll(truth, (3, -2), (0, 1)).copy()
    for _ in range(12):
        y, x = rng.integers(truth.shape[0]), rng.integers(truth.shape[1])
        guess[y : y + 25, x : x + 25] = rng.integers(classes)
    return np.maximum(guess, 0)


def test_iou_by_hand() -> None:
    truth = np.array([[0, 0, 0, 0], [1, 1, 2, -1]])
    predicted = np.array([[0, 0, 0, 1], [1, 3, 3, 0]])
    result = intersection_over_union(confusion(truth, predicted, 4))
    assert result.per_class[:3].tolist() == [3 / 4, 1 / 3, 0]
    assert result.per_class[3] == 0
    assert result.mean == pytest.approx((3 / 4 + 1 / 3 + 0) / 3)  # class 3 is not in the truth
    assert result.pixel_accuracy == pytest.approx(4 / 7)
    assert result.frequency_weighted == pytest.approx((4 * 3 / 4 + 2 * 1 / 3) / 7)


def test_iou_of_real_masks_is_pycocotools() -> None:
    """Every class's masks of all photos end to end, as one tall picture in run-length code."""
    truths = _real_masks()
    guesses = [_guess(truth, index) for index, truth in enumerate(truths)]
    counts = sum(
        (confusion(truth, guess, 11) for truth, guess in zip(truths, guesses, strict=True)),
        np.zeros((11, 12), np.int64),
    )
    result = intersection_over_union(counts)
    truth, guess = np.concatenate(truths), np.concatenate(guesses)
    for label in np.unique(truth[truth >= 0]):
        pair = [coco.encode(np.asfortranarray(m, np.uint8)) for m in (guess == label, truth == label)]
        void = coco.encode(np.asfortranarray((guess == label) & (truth < 0), np.uint8))
        expected = coco.area(coco.merge(pair, intersect=True)) / (
            coco.area(coco.merge(pair, intersect=False)) - coco.area(void)
        )
        assert result.per_class[label] == pytest.approx(expected, abs=1e-12)


def test_outline_is_what_erosion_leaves() -> None:
    """The definition in the paper, class by class, against the count for all at once."""
    for index, truth in enumerate(_real_masks(2)):
        guess = _guess(truth, index)
        distance = max(1, round(0.02 * float(np.hypot(*truth.shape))))
        counts = boundary_counts(truth, guess, 11)
        per_class, mean = boundary_iou(counts)
        ious = []
        for label in range(11):
            rims = []
            for labels in (truth, guess):
                mask = np.pad((labels == label).astype(np.uint8), 1)
                inner = cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=distance)
                rims.append((mask - inner)[1:-1, 1:-1].astype(bool) & (truth >= 0))
            met, either = np.count_nonzero(rims[0] & rims[1]), np.count_nonzero(rims[0] | rims[1])
            assert counts[:, label].tolist() == [met, rims[0].sum(), rims[1].sum()]
            assert either == 0 or per_class[label] == met / either
            if rims[0].any():
                ious.append(met / either)
        assert mean == pytest.approx(np.mean(ious))


def test_boundary_by_hand() -> None:
    truth = np.zeros((6, 9), np.int32)
    truth[:, 5:] = 1
    assert outline(truth, 1)[2].tolist() == [True, False, False, False, True, True, False, False, True]
    perfect, _ = boundary_iou(boundary_counts(truth, truth, 3))
    assert perfect[:2].tolist() == [1, 1]
    assert np.isnan(perfect[2])
    assert np.isnan(boundary_iou(np.zeros((3, 2), np.int64))[1])


def test_panoptic_by_hand() -> None:
    """A match, a false alarm, a miss, a crowd that excuses, and pixels without truth that do not count."""
    truth = np.zeros((4, 10), np.int64)
    truth[:, :4], truth[:, 4:6], truth[:2, 6:8], truth[2:, 6:8] = 1, 2, 3, 4
    segments = {1: TrueSegment(0), 2: TrueSegment(1), 3: TrueSegment(1, crowd=True), 4: TrueSegment(0)}
    found = np.zeros((4, 10), np.int64)
    found[:, :3], found[:, 3] = 10, 11  # 12 of the 16 pixels of the first, and a strip that is a false alarm
    found[:, 4:6] = 12  # the second, but called 0
    found[:2, 6:8] = 13  # in the crowd
    found[:2, 8:] = 10  # part of the first match lies where nothing is labelled
    counts = match_segments(truth, segments, found, {10: 0, 11: 0, 12: 0, 13: 1}, 2)
    assert counts.iou.tolist() == [12 / 16, 0]
    assert counts.matched.tolist() == [1, 0]
    assert counts.invented.tolist() == [2, 0]
    assert counts.missed.tolist() == [1, 1]
    pq = [0.75 / (1 + 1.5), 0]
    assert counts.per_class().tolist() == pq
    quality = counts.quality()
    assert (quality.pq, quality.sq, quality.rq, quality.classes) == (np.mean(pq), 0.375, 0.2, 2)
    assert counts.quality(np.array([True, False])).pq == pq[0]
    assert SegmentCounts.zero(2).quality().classes == 0


def _naive(
    truth: Labels, segments: dict[int, TrueSegment], found: Labels, labels: dict[int, int], classes: int
) -> list[list[float]]:
    """Panoptic counting written out: every pair of masks."""
    iou, matched, invented, missed = ([0.0] * classes for _ in range(4))
    void = ~np.isin(truth, list(segments))
    met: set[int] = set()
    for true_id, segment in segments.items():
        mask = truth == true_id
        if not mask.any() or segment.crowd:
            continue
        hit = False
        for found_id, label in labels.items():
            other = (found == found_id) & ~void
            share = np.count_nonzero(mask & other) / np.count_nonzero(mask | other)
            if label == segment.label and share > 0.5:
                iou[label] += share
                matched[label] += 1
                met.add(found_id)
                hit = True
        if not hit:
            missed[segment.label] += 1
    for found_id, label in labels.items():
        mask = found == found_id
        crowds = np.isin(truth, [key for key, segment in segments.items() if segment.crowd and segment.label == label])
        if mask.any() and found_id not in met and np.count_nonzero(mask & (void | crowds)) <= 0.5 * mask.sum():
            invented[label] += 1
    return [iou, matched, invented, missed]


def _segments(labels: Labels, crowd_class: int) -> tuple[Labels, dict[int, TrueSegment]]:
    """Connected regions of a label map; those of one class are crowds."""
    ids, segments = np.zeros_like(labels), {}
    for label in range(11):
        count, parts = cv2.connectedComponents((labels == label).astype(np.uint8))
        for part in range(1, count):
            segments[len(segments) + 1] = TrueSegment(label, label == crowd_class)
            ids[parts == part] = len(segments)
    return ids, segments


def test_panoptic_counts_of_real_masks() -> None:
    for index, mask in enumerate(_real_masks(2)):
        truth, segments = _segments(mask, crowd_class=8)
        found, parts = _segments(_guess(mask, index), crowd_class=-1)
        labels = {key: segment.label for key, segment in parts.items()}
        counts = match_segments(truth, segments, found, labels, 11)
        expected = _naive(truth, segments, found, labels, 11)
        assert counts.matched.sum() > 5
        assert counts.invented.sum() > 5
        assert counts.missed.sum() > 5
        for have, want in zip((counts.iou, counts.matched, counts.invented, counts.missed), expected, strict=True):
            assert have.tolist() == pytest.approx(want)


def test_windows_ask_for_the_same_id() -> None:
    first, second = np.ones((2, 4), np.int64), np.full((2, 4), 2)
    segments, labels = {1: TrueSegment(0)}, {1: 0, 2: 0}
    kept = PanopticFrame(first, segments, first, labels)
    lost = PanopticFrame(first, segments, second, labels)
    assert match_window([kept, kept], 1).quality().pq == 1
    assert match_window([kept, lost], 1).quality().pq == 0  # each half has an IoU of one half
    assert (match_window([kept], 1) + match_window([lost], 1)).quality().pq == 1


def test_linking_keeps_ids_of_things() -> None:
    linker = SegmentLinker(np.array([False, True]))
    frame = np.zeros((4, 12), np.int64)
    frame[:2, :4], frame[:2, 6:10], frame[2:] = 1, 2, 3
    ids, labels = linker.link(frame, {1: 0, 2: 0, 3: 1})
    moved = np.zeros_like(frame)
    moved[:2, 1:5], moved[:2, 7:11], moved[2:], moved[0, 11] = 2, 1, 3, 4  # the runtime counts the other way round
    later, now = linker.link(moved, {1: 0, 2: 0, 3: 1, 4: 0})
    assert later[0, 2] == ids[0, 2]
    assert later[0, 8] == ids[0, 8]
    assert later[3, 0] == ids[3, 0] == 2
    assert later[0, 11] not in ids
    assert labels.items() <= now.items()


def _loops(truths: list[Labels], guesses: list[Labels], length: int) -> tuple[list[float], list[float]]:
    """The published count and the strict one as plain loops over windows and pixels."""
    official, strict = [], []
    for start in range(len(truths) - length):
        constant = steady = labelled = right = 0
        for pixel in np.ndindex(truths[0].shape):
            true = {int(truth[pixel]) for truth in truths[start : start + length]}
            found = {int(guess[pixel]) for guess in guesses[start : start + length]}
            if len(true) == 1:
                constant += 1
                steady += len(found) == 1
                if min(true) >= 0:
                    labelled += 1
                    right += found == true
        if constant:
            official.append(steady / constant)
        if labelled:
            strict.append(right / labelled)
    return official, strict


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(np.int8, (9, 2, 3), elements=st.integers(-1, 1)),
    hnp.arrays(np.int8, (9, 2, 3), elements=st.integers(0, 1)),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_consistency_is_the_double_loop(truths: Labels, guesses: Labels, frames: int, length: int) -> None:
    counter = ConsistencyCounter(length)
    for truth, guess in zip(truths[:frames], guesses[:frames], strict=True):
        counter.add(truth, guess)
    official, strict = _loops(list(truths[:frames]), list(guesses[:frames]), length)
    sums = counter.sums
    assert (sums.windows, sums.strict_windows) == (len(official), len(strict))
    assert sums.value == (pytest.approx(np.mean(official)) if official else None)
    assert sums.strict == (pytest.approx(np.mean(strict)) if strict else None)


def test_consistency_of_real_masks() -> None:
    """Clips of shifted masks; a constant answer gets everything as published, and what it deserves when strict."""
    mask = _real_masks(1)[0][::6, ::6]
    truths = [np.roll(mask, index // 3, 1) for index in range(12)]
    guesses = [_guess(truth, index // 5) for index, truth in enumerate(truths)]
    counter, constant = ConsistencyCounter(8), ConsistencyCounter(8)
    for truth, guess in zip(truths, guesses, strict=True):
        counter.add(truth, guess)
        constant.add(truth, np.zeros_like(truth))
    official, strict = _loops(truths, guesses, 8)
    assert len(official) == 4  # of five windows the published script leaves the last one out
    assert (counter.sums.value, counter.sums.strict) == (
        pytest.approx(np.mean(official)),
        pytest.approx(np.mean(strict)),
    )
    assert constant.sums.value == 1
    assert constant.sums.strict is not None
    assert constant.sums.strict < 0.9
    assert (Consistency() + counter.sums).value == counter.sums.value
    with pytest.raises(ValueError, match="follows one of"):
        counter.add(truths[0][1:], guesses[0][1:])
