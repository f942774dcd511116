"""Panoptic maps: what must hold of any, and agreement with a literal reading of the published procedure."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference import Case, needs_reference, reference_state

from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.panoptic import Axis, PanopticOptions, PanopticSegment, panoptic_segments
from ovs_edge.segmenter.fcclip import FCClip
from ovs_edge.segmenter.layouts.published import from_published

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


def _resized(logits: Array, sizes: tuple[tuple[int, int], ...]) -> Array:
    """Logits (Q, h, w) resized to one size after another, as detectron2 does."""
    tensor = torch.from_numpy(logits)[None]
    for size in sizes:
        tensor = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear", align_corners=False)
    return tensor[0].numpy()


def _check(
    logits: Array, classes: Array, things: Array, options: PanopticOptions, sizes: tuple[tuple[int, int], ...] = ()
) -> list[PanopticSegment]:
    resize = None
    if sizes:
        rows, columns = (Axis.bilinear(logits.shape[1 + axis], sizes[0][axis]) for axis in range(2))
        for before, after in itertools.pairwise(sizes):
            rows = rows.then(Axis.bilinear(before[0], after[0]))
            columns = columns.then(Axis.bilinear(before[1], after[1]))
        resize = rows, columns
    ids, segments = panoptic_segments(logits, classes, things, options, resize)
    masks = 1 / (1 + np.exp(-np.maximum(_resized(logits, sizes), np.float32(-80))))
    assert ids.shape == masks.shape[1:] and ids.dtype == np.int32
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))
    assert set(np.unique(ids)) - {0} == {segment.id for segment in segments}  # dense, and none is empty
    assert all(segment.area == int((ids == segment.id).sum()) for segment in segments)
    assert sum(segment.area for segment in segments) == int((ids > 0).sum())
    stuff = [segment.label for segment in segments if not segment.thing]
    assert len(stuff) == len(set(stuff))
    assert all(segment.thing == bool(things[segment.label]) for segment in segments)
    known, parts = _literal(masks, classes, things, options)
    assert np.mean(ids != known) <= (1e-4 if sizes else 0)  # sums in another order: where two are equal, either may win
    assert [(segment.id, segment.label, segment.thing) for segment in segments] == parts
    return segments


def _random(seed: int, queries: int, classes: int, size: tuple[int, int]) -> tuple[Array, Array, Array]:
    """Blobs that overlap, sure of themselves to different degrees."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    centre, radius = rng.uniform(0, max(size), (queries, 2)), rng.uniform(0.5, 0.5 + max(size) / 2, queries)
    distance = np.hypot(y[None] - centre[:, :1, None], x[None] - centre[:, 1:, None])
    logits = rng.normal(0, 2, (queries, classes + 1))
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return (radius[:, None, None] - distance).astype(np.float32), share.astype(np.float32), rng.random(classes) < 0.5


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
    masks = np.full((4, 4, 8), -9, np.float32)
    masks[0, :, :2], masks[1, :, 2:4], masks[2, :, 4:6], masks[3, :, 6:] = 3, 3, 3, 3
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
    with pytest.raises(UsageError, match="resized from 4x3"):
        panoptic_segments(
            np.ones((2, 3, 3), np.float32),
            np.ones((2, 3), np.float32),
            np.ones(2, bool),
            resize=(Axis.bilinear(3, 5), Axis.bilinear(4, 5)),
        )


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=4),
    cut=st.integers(0, 9),
    columns=st.integers(1, 3),
    seed=st.integers(0, 10**6),
)
def test_an_axis_resizes_as_torch_does(sizes: list[int], cut: int, columns: int, seed: int) -> None:
    """Resized once or several times, the end cut off before the last time."""
    values = np.random.default_rng(seed).normal(0, 5, (2, sizes[0], columns)).astype(np.float32)
    tensor, axis = torch.from_numpy(values)[None], Axis.bilinear(sizes[0], sizes[1])
    tensor = torch.nn.functional.interpolate(tensor, size=(sizes[1], columns), mode="bilinear")
    for size in sizes[2:]:
        kept = max(1, tensor.shape[2] - cut)
        tensor = torch.nn.functional.interpolate(tensor[:, :, :kept], size=(size, columns), mode="bilinear")
        axis = axis.then(Axis.bilinear(kept, size))
    assert np.abs(axis.of(values, slice(None), 0) - tensor[0].numpy()).max() < 1e-4
    assert (axis.weight >= 0).all() and np.allclose(axis.weight.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [((96, 128), (75, 100)), ((96, 128), (333, 444)), ((97, 31),)])
def test_masks_are_resized_before_anything_is_decided(sizes: tuple[tuple[int, int], ...], seed: int) -> None:
    logits, classes, things = _random(seed, 12, 4, (24, 32))
    for sharpness in (1, 20):  # soft edges and hard ones
        assert _check(logits * np.float32(sharpness), classes, things, PanopticOptions(0.0, 0.5), sizes)


@pytest.fixture(scope="module", params=["gkc", "fcclip"])
def outputs(request: pytest.FixtureRequest) -> tuple[Array, Array, tuple[int, int]]:
    """Mask logits and class probabilities of the published R50 on its reference image, and that image's size.

    What FC-CLIP's classes are taken from is its ensemble, which the reference does not hold: our model gives it, once
    what it is made of is compared with the reference elsewhere.
    """
    case = Case.load(request.param)
    size: tuple[int, int] = case.arrays["image"].shape[:2]
    if request.param == "gkc":
        logits = torch.from_numpy(case.arrays["class_logits"])
        return case.arrays["mask_logits"], logits.softmax(-1).numpy(), size
    model, _ = from_published(reference_state("fcclip"), Path("fcclip_r50.pth"), case.training_vocabulary)
    assert isinstance(model, FCClip)
    with torch.no_grad():
        output = model(case.image(model), case.text_embeddings, seen=torch.from_numpy(case.arrays["seen"]))
    return output.mask_logits[0].numpy(), output.class_logits[0].softmax(-1).numpy(), size


@needs_reference
@pytest.mark.parametrize("overlap", [0.8, 0.2, 0.02])
def test_on_reference_outputs(outputs: tuple[Array, Array, tuple[int, int]], overlap: float) -> None:
    """At the masks' own size, that of the image, and those of smaller and larger pictures shown to the network."""
    masks, share, size = outputs
    assert np.allclose(share.sum(1), 1, atol=1e-5)
    for things in (np.ones(5, bool), np.zeros(5, bool), np.array([1, 1, 0, 1, 0], bool)):
        for sizes in ((), (size,), (size, (90, 135)), (size, (300, 450))):
            _check(masks, share, things, PanopticOptions(0.0, overlap), sizes)
