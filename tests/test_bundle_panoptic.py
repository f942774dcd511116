"""Panoptic maps: what must hold of any, and agreement with a literal reading of the published procedure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference import Case, needs_reference

from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.panoptic import PanopticOptions, Segment, panoptic_segments

Array = np.ndarray[Any, Any]


def _literal(masks: Array, classes: Array, things: Array, options: PanopticOptions) -> tuple[Array, list[Any]]:
    """The procedure as it is described, a query and a full map at a time."""
    kept = [
        (masks[query], int(row.argmax()), row.max())
        for query, row in enumerate(classes)
        if row.argmax() != len(things) and row.max() > options.score
    ]
    result = np.zeros(masks.shape[1:], int)
    segments: list[Any] = []
    if not kept:
        return result, segments
    winner = np.stack([mask * score for mask, _, score in kept]).argmax(0)
    stuff: dict[int, int] = {}
    for index, (mask, label, _) in enumerate(kept):
        won, whole = winner == index, mask >= 0.5
        if not won.any() or not whole.any() or not (won & whole).any():
            continue
        if won.sum() / whole.sum() < options.overlap:
            continue
        if not things[label] and label in stuff:
            result[won & whole] = stuff[label]
            continue
        segments.append((len(segments) + 1, label, bool(things[label])))
        if not things[label]:
            stuff[label] = len(segments)
        result[won & whole] = len(segments)
    return result, segments


def _check(masks: Array, classes: Array, things: Array, options: PanopticOptions) -> list[Segment]:
    ids, segments = panoptic_segments(masks, classes, things, options)
    assert ids.shape == masks.shape[1:] and ids.dtype == np.int32
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))
    assert set(np.unique(ids)) - {0} == {segment.id for segment in segments}  # dense, and none is empty
    assert all(segment.area == int((ids == segment.id).sum()) for segment in segments)
    assert sum(segment.area for segment in segments) == int((ids > 0).sum())
    stuff = [segment.label for segment in segments if not segment.thing]
    assert len(stuff) == len(set(stuff))
    assert all(segment.thing == bool(things[segment.label]) for segment in segments)
    known, parts = _literal(masks, classes, things, options)
    assert np.array_equal(ids, known)
    assert [(segment.id, segment.label, segment.thing) for segment in segments] == parts
    return segments


def _random(seed: int, queries: int, classes: int, size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Blobs that overlap, sure of themselves to different degrees."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    centre, radius = rng.uniform(0, max(size), (queries, 2)), rng.uniform(0.5, 0.5 + max(size) / 2, queries)
    distance = np.hypot(y[None] - centre[:, :1, None], x[None] - centre[:, 1:, None])
    masks = (1 / (1 + np.exp(distance - radius[:, None, None]))).astype(np.float32)
    logits = rng.normal(0, 2, (queries, classes + 1))
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return masks, share.astype(np.float32), rng.random(classes) < 0.5


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 12),
    classes=st.integers(1, 5),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    score=st.sampled_from([0.0, 0.5]),
    overlap=st.sampled_from([0.0, 0.5, 0.8]),
)
def test_invariants(seed: int, queries: int, classes: int, size: tuple[int, int], score: float, overlap: float) -> None:
    _check(*_random(seed, queries, classes, size), PanopticOptions(score, overlap))


def test_things_are_told_apart_and_stuff_is_merged() -> None:
    masks = np.zeros((4, 4, 8), np.float32)
    masks[0, :, :2], masks[1, :, 2:4], masks[2, :, 4:6], masks[3, :, 6:] = 0.9, 0.9, 0.9, 0.9
    classes = np.array([[0.9, 0, 0.1], [0.8, 0, 0.2], [0, 0.9, 0.1], [0, 0.8, 0.2]], np.float32)
    segments = _check(masks, classes, np.array([True, False]), PanopticOptions())
    assert [(segment.label, segment.thing, segment.area) for segment in segments] == [
        (0, True, 8), (0, True, 8), (1, False, 16),
    ]  # fmt: skip


def test_nothing_found() -> None:
    masks, classes = np.ones((2, 3, 3), np.float32), np.array([[0.1, 0.9], [0.2, 0.8]], np.float32)
    ids, segments = panoptic_segments(masks, classes, np.array([True]))
    assert not ids.any() and not segments


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match=r"expected \(2, 4\)"):
        panoptic_segments(np.ones((2, 3, 3), np.float32), np.ones((2, 3), np.float32), np.ones(3, bool))


@needs_reference
@pytest.mark.parametrize("overlap", [0.8, 0.2])
@pytest.mark.parametrize(("family", "logits"), [("gkc", "class_logits"), ("fcclip", "in_vocab_logits")])
def test_on_reference_outputs(family: str, logits: str, overlap: float) -> None:
    arrays = Case.load(family).arrays
    masks = (1 / (1 + np.exp(-arrays["mask_logits"]))).astype(np.float32)
    share = np.exp(arrays[logits] - arrays[logits].max(1, keepdims=True))
    share = share / share.sum(1, keepdims=True)
    for things in (np.ones(5, bool), np.zeros(5, bool), np.array([1, 1, 0, 1, 0], bool)):
        _check(masks, share, things, PanopticOptions(0.0, overlap))
