"""Regions, their run lengths and outlines say the same pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_edge.data.formats.shapes import fill
from ovs_edge.label.geometry.outlines import flat, outlines
from ovs_edge.label.geometry.regions import label_map, regions_of
from ovs_edge.label.inputs.pictures import InputPicture
from ovs_edge.label.records import PictureRecord, decoded, record_of
from ovs_edge.runtime.inference.interop import encode_rle
from ovs_edge.runtime.inference.prediction import Prediction, Segment
from ovs_edge.runtime.opencv import cv2

Labels = npt.NDArray[np.int32]


def predicted(labels: Labels) -> Prediction:
    return Prediction(labels, np.full(labels.shape, 0.5, np.float32), ("a", "b", "c"))


@st.composite
def label_maps(draw: st.DrawFn) -> Labels:
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    values = draw(st.lists(st.integers(-1, 1), min_size=height * width, max_size=height * width))
    return np.array(values, np.int32).reshape(height, width)


@settings(max_examples=150, deadline=None)
@given(label_maps())
def test_regions_run_lengths_and_outlines_are_the_label_map(labels: Labels) -> None:
    regions = regions_of(predicted(labels))
    assert np.array_equal(label_map(regions, labels.shape, -1), labels)
    painted = np.full(labels.shape, -1)
    for region in regions:
        whole = label_map((region,), labels.shape, -1) >= 0
        assert region.counts == encode_rle(whole)["counts"]
        assert region.pixels == whole.sum() and region.confidence == pytest.approx(0.5)
        found = np.zeros(labels.shape, bool)
        for polygon in outlines(region):
            found |= fill([flat(polygon)], labels.shape)
        assert np.array_equal(found, whole)
        painted[found] = region.index
    assert np.array_equal(painted, labels)


def test_outlines_are_right_for_tools_that_cut_coordinates_and_fill_the_outline_too() -> None:
    labels = np.full((40, 60), -1, np.int32)
    cv2.circle(labels, (30, 20), 15, 0, -1)
    labels[15:25, 25:33] = -1
    [region] = regions_of(predicted(labels))
    [polygon] = outlines(region)
    canvas = np.zeros(labels.shape, np.uint8)
    cv2.fillPoly(canvas, [polygon.astype(np.int32)], 1)
    hole_filled = (labels >= 0) | (canvas > 0)
    assert np.array_equal(canvas > 0, hole_filled) and np.mean((canvas > 0) == (labels >= 0)) > 0.98


def test_simplified_outlines_have_fewer_points_and_nearly_the_same_pixels() -> None:
    labels = np.full((200, 300), -1, np.int32)
    cv2.ellipse(labels, (150, 100), (120, 70), 20, 0, 360, 0, -1)
    cv2.circle(labels, (150, 100), 20, -1, -1)
    [region] = regions_of(predicted(labels))
    exact, fewer = outlines(region), outlines(region, 0.75)
    assert sum(map(len, fewer)) < 0.5 * sum(map(len, exact))
    painted = np.where(fill([flat(fewer[0])], labels.shape), 0, -1)
    assert np.mean(painted == labels) > 0.995


def test_panoptic_segments_are_regions() -> None:
    ids = np.array([[1, 1, 2], [1, 0, 2]], np.int32)
    segments = (Segment(1, 0, "a", True, 3, (0, 0, 2, 2), 0.9), Segment(2, 0, "a", True, 2, (2, 0, 3, 2), 0.8))
    prediction = Prediction(np.zeros((2, 3), np.int32), np.ones((2, 3), np.float32), ("a",), {}, segments, ids)
    one, other = regions_of(prediction)
    assert (one.pixels, one.confidence, other.box) == (3, 0.9, (2, 0, 3, 2))


def test_a_record_survives_its_line() -> None:
    labels = np.array([[0, 0, 1], [-1, 0, 1]], np.int32)
    regions = regions_of(predicted(labels))
    picture = InputPicture("x", "in: é", np.zeros((2, 3, 3), np.uint8), time=1.5)
    for polygons in (False, True):
        record = record_of(picture, regions, "images/x.jpg", polygons=polygons, tolerance=0)
        again = PictureRecord.from_json(record.to_json())
        assert again == record and again.to_json() == record.to_json()
        assert np.array_equal(label_map(decoded(again), (2, 3), -1), labels)
    failed = PictureRecord("x", "y", error="why")
    assert PictureRecord.from_json(failed.to_json()) == failed
