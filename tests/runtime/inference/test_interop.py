"""Masks, supervision's Detections and COCO's RLE, each against the package it is for."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ovs_edge.bundle.errors import MissingExtraError, UsageError
from ovs_edge.runtime.inference.interop import decode_rle, encode_rle, to_coco, to_detections
from ovs_edge.runtime.inference.prediction import NOTHING, Prediction, Segment

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


def _prediction() -> Prediction:
    """A cat of 2x3 pixels and a dog of one; of "bird" there is nothing."""
    labels = np.full((4, 6), NOTHING, np.int32)
    labels[1:3, 0:3] = 2
    labels[3, 5] = 0
    confidence = np.full((4, 6), 0.25, np.float32)
    confidence[1:3, 0:3] = 0.75
    return Prediction(labels, confidence, ("dog", "bird", "cat"))


def _panoptic() -> Prediction:
    """Two cats side by side."""
    ids = np.zeros((4, 6), np.int32)
    ids[:, :2], ids[:, 4:] = 1, 2
    segments = (
        Segment(1, 0, "cat", True, 8, (0, 0, 2, 4), 0.5),
        Segment(2, 0, "cat", True, 8, (4, 0, 6, 4), 0.75),
    )
    return Prediction(
        np.where(ids > 0, 0, NOTHING).astype(np.int32), np.ones((4, 6), np.float32), ("cat",), {}, segments, ids
    )


def test_mask_of_a_class() -> None:
    prediction = _prediction()
    mask = prediction.mask("cat")
    assert mask.dtype == np.bool_ and mask.sum() == 6 and mask[1:3, 0:3].all()
    assert not prediction.mask("bird").any()
    with pytest.raises(UsageError, match="no class 'cow' .* expected one of 'dog', 'bird', 'cat'"):
        prediction.mask("cow")


def test_detections_of_regions() -> None:
    supervision = pytest.importorskip("supervision", reason="the extra 'supervision' is not installed")
    detections = to_detections(_prediction())
    assert isinstance(detections, supervision.Detections)
    np.testing.assert_array_equal(detections.xyxy, [[5, 3, 6, 4], [0, 1, 3, 3]])
    np.testing.assert_array_equal(detections.class_id, [0, 2])
    np.testing.assert_array_equal(detections.data["class_name"], ["dog", "cat"])
    np.testing.assert_allclose(detections.confidence, [0.25, 0.75])
    np.testing.assert_array_equal(detections.mask.sum((1, 2)), [1, 6])
    # supervision's own code accepts them: it selects, and it draws where the mask is and nowhere else.
    cats = detections[detections.confidence > 0.5]
    picture = supervision.MaskAnnotator(opacity=1).annotate(np.zeros((4, 6, 3), np.uint8), cats)
    np.testing.assert_array_equal(picture.any(axis=2), _prediction().mask("cat"))


def test_detections_of_segments_and_of_nothing() -> None:
    pytest.importorskip("supervision", reason="the extra 'supervision' is not installed")
    detections = to_detections(_panoptic())
    np.testing.assert_array_equal(detections.data["segment_id"], [1, 2])
    np.testing.assert_array_equal(detections.class_id, [0, 0])
    np.testing.assert_array_equal(detections.mask[1], _panoptic().segment_map == 2)
    empty = to_detections(Prediction(np.full((4, 6), NOTHING, np.int32), np.zeros((4, 6), np.float32), ("cat",)))
    assert len(empty) == 0 and empty.mask.shape == (0, 4, 6)


def test_detections_without_supervision_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(MissingExtraError, match=r"ovs-edge\[supervision\]"):
        to_detections(_prediction())


def test_coco_entries() -> None:
    entries = json.loads(json.dumps(to_coco(_prediction(), 7, {"dog": 18, "cat": 17, "bird": 16})))
    assert [(entry["image_id"], entry["category_id"], entry["bbox"], entry["area"]) for entry in entries] == [
        (7, 18, [5, 3, 1, 1], 1),
        (7, 17, [0, 1, 3, 2], 6),
    ]
    assert [entry["score"] for entry in entries] == [0.25, 0.75]
    np.testing.assert_array_equal(decode_rle(entries[1]["segmentation"]), _prediction().mask("cat"))
    assert [entry["category_id"] for entry in to_coco(_panoptic())] == [1, 1]
    with pytest.raises(UsageError, match="'cat' has no id"):
        to_coco(_prediction(), category_ids={"dog": 18})


def test_known_runs() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], np.bool_)
    assert encode_rle(mask, compressed=False) == {"size": [2, 3], "counts": [2, 3, 1]}
    assert encode_rle(mask) == {"size": [2, 3], "counts": "231"}
    assert encode_rle(np.ones((2, 2), np.bool_), compressed=False)["counts"] == [0, 4]
    assert encode_rle(np.zeros((2, 2), np.bool_), compressed=False)["counts"] == [4]


@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_masks_come_back_whole(mask: np.ndarray) -> None:
    for compressed in (True, False):
        np.testing.assert_array_equal(decode_rle(encode_rle(mask, compressed=compressed)), mask)


# pycocotools hands numpy 2 an array interface of numpy 1.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@settings(max_examples=60, deadline=None)
@given(MASKS)
def test_pycocotools_reads_and_writes_the_same(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert ours["counts"].encode("ascii") == theirs["counts"] and ours["size"] == theirs["size"]
    np.testing.assert_array_equal(coco.decode(ours), mask)
    np.testing.assert_array_equal(decode_rle(theirs), mask)
    plain = coco.frPyObjects(encode_rle(mask, compressed=False), *mask.shape)
    assert plain["counts"] == theirs["counts"]


def test_long_runs_need_several_groups() -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    mask = np.zeros((1000, 1500), np.bool_)
    mask[:, 3:1400] = True
    mask[5, 700] = mask[999, 1499] = False
    mask[500, 1450] = True
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encode_rle(mask)["counts"].encode("ascii") == theirs["counts"]
    np.testing.assert_array_equal(decode_rle(theirs), mask)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=20),
        st.binary(max_size=10),
        st.lists(st.integers(-3, 30) | st.just(2**70), max_size=6),
        st.none(),
        st.lists(st.text(max_size=2), max_size=2),
    ),
    st.lists(st.integers(-2, 8) | st.just("3"), max_size=3),
)
def test_anything_else_is_refused_in_one_line(counts: Any, size: Any) -> None:
    try:
        mask = decode_rle({"size": size, "counts": counts})
    except UsageError as error:
        assert "\n" not in str(error) and "expected" in str(error)
    else:
        assert mask.shape == tuple(map(int, size)) and mask.dtype == np.bool_


@pytest.mark.parametrize(
    "rle",
    [{}, {"size": [2, 2]}, {"size": [2, 2], "counts": [1, 2]}, {"size": [2, 2], "counts": "2P"}, {"size": 4, "counts": []},
     {"size": [2, 2], "counts": [2**62, 2**62, 2**62, 2**62, 4]}],
)  # fmt: skip
def test_broken_rle(rle: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        decode_rle(rle)
