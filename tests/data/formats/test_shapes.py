"""Outlines and run lengths become the pixels whose centres they hold, as other tools paint them."""

from __future__ import annotations

import base64
import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data.formats.shapes import circle, decode_runs, encoded_bitmap, fill, paste, rectangle, row_runs

SIZE = (7, 9)  # height, width


def test_a_polygon_holds_the_pixels_whose_centres_are_inside() -> None:
    assert rectangle(1, 2, 4, 5, SIZE).sum() == 9
    assert rectangle(1, 2, 4, 5, SIZE)[2:5, 1:4].all()
    assert rectangle(4, 5, 1, 2, SIZE).sum() == 9  # any two opposite corners
    assert rectangle(1.4, 2.4, 3.6, 4.6, SIZE)[2:5, 1:4].all()
    assert rectangle(1.6, 2.6, 3.4, 4.4, SIZE).sum() == 1
    triangle = fill([[0, 0, 6, 0, 0, 6]], SIZE)
    assert [int(row.sum()) for row in triangle] == [5, 4, 3, 2, 1, 0, 0]


def test_a_hole_and_what_lies_outside() -> None:
    frame = fill([[0, 0, 6, 0, 6, 6, 0, 6], [2, 2, 4, 2, 4, 4, 2, 4]], SIZE)
    assert frame.sum() == 36 - 4
    assert not frame[2:4, 2:4].any()
    assert fill([[-5, -5, 99, -5, 99, 99, -5, 99]], SIZE).all()
    assert not fill([[20, 20, 30, 20, 30, 30]], SIZE).any()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-3, 12), st.floats(-3, 12)), min_size=3, max_size=7), st.integers(0, 2**32 - 1))
def test_fill_against_a_point_by_point_test(points: list[tuple[float, float]], seed: int) -> None:
    def inside(x: float, y: float) -> bool:
        hits = 0
        for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
            if (y1 <= y) != (y2 <= y) and x1 + (y - y1) * (x2 - x1) / (y2 - y1) <= x:
                hits += 1
        return hits % 2 == 1

    mask = fill([[value for point in points for value in point]], SIZE)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            assert mask[y, x] == inside(x + 0.5, y + 0.5)


@pytest.mark.parametrize("outline", [[1, 2, 3], ["a", "b"], [float("nan"), 1, 2, 3], [[1]], None])
def test_what_is_no_outline(outline: object) -> None:
    with pytest.raises(DatasetError, match="an outline"):
        fill([outline], SIZE)  # type: ignore[list-item]


def test_a_circle() -> None:
    assert circle(4.5, 3.5, 1, SIZE).sum() == 5
    assert circle(4.5, 3.5, 0, SIZE).sum() == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_compressed_runs_are_cocos(height: int, width: int, seed: int, share: float) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    mask = np.random.default_rng(seed).random((height, width)) < share
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(decode_runs(encoded["counts"].decode(), (height, width)), mask)
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flat, [not flat[-1]]))))
    runs = np.diff(np.concatenate(([0], edges))).tolist()
    assert np.array_equal(decode_runs(runs, (height, width)), mask)


@pytest.mark.parametrize("counts", [[1, 2], [64, -1], "???", "0", [[1]], ["a"], [10**30]])
def test_runs_that_are_none(counts: object) -> None:
    with pytest.raises(DatasetError, match="run lengths"):
        decode_runs(counts, SIZE)  # type: ignore[arg-type]


def test_row_runs() -> None:
    assert row_runs([9, 3, 51], SIZE)[1].tolist() == [True] * 3 + [False] * 6


def _png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def test_bitmaps() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1:, 2:] = True
    plain = base64.b64encode(_png(mask)).decode()
    assert np.array_equal(encoded_bitmap(plain), mask)
    colours = np.repeat(mask[..., None] * np.uint8(255), 4, -1)
    deflated = base64.b64encode(zlib.compress(_png(colours))).decode()
    assert np.array_equal(encoded_bitmap(deflated, deflated=True), mask)
    for data in ("", "AAAA", plain[:40]):
        with pytest.raises(DatasetError, match="a bitmap cannot be decoded"):
            encoded_bitmap(data)


def test_a_bitmap_is_cut_at_the_edges() -> None:
    mask = np.ones((4, 4), bool)
    assert paste(mask, -2, -3, SIZE).sum() == 2
    assert paste(mask, 7, 5, SIZE).sum() == 4
    assert paste(mask, 20, 0, SIZE).sum() == paste(mask, 0, 20, SIZE).sum() == 0
