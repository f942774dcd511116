"""Zones whose outline crosses itself: what is filled, and that zones of which nothing is filled are refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.events.place_masks import _drawn, _is_in
from ovs_edge.runtime.events.places import Anchor, Point, Zone, _area
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.regions.track import Track

BOW_TIE = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))  # two triangles, whose signed areas are -1/4 and 1/4
SIDE = 512  # cells
SHARE = st.floats(0, 1) | st.integers(0, 8).map(lambda number: number / 8)
CORNERS = st.lists(st.tuples(SHARE, SHARE), min_size=3, max_size=7).map(tuple)


@pytest.mark.parametrize(
    ("points", "area"),
    [
        (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), 1.0),
        (((0.25, 0.25), (0.25, 0.75), (0.75, 0.25)), 0.125),
        (BOW_TIE, 0.5),
        (BOW_TIE * 2, 0.0),  # twice around: by the even-odd rule outside
        (((0.1, 0.1), (0.5, 0.5), (0.9, 0.9)), 0.0),
        # A pentagram: its middle, which is surrounded twice, is no part of it.
        (tuple((0.5 + math.sin(k * 0.8 * math.pi) / 2, 0.5 - math.cos(k * 0.8 * math.pi) / 2) for k in range(5)), None),
    ],
)
def test_the_area_is_what_is_filled(points: tuple[Point, ...], area: float | None) -> None:
    if area is None:
        # The five tips: isosceles triangles over the edges of the inner pentagon, whose circle is 1/phi**2 as wide.
        inner = 0.5 * ((math.sqrt(5) - 1) / 2) ** 2
        edge = 2 * inner * math.sin(math.pi / 5)
        area = 5 * edge / 2 * (edge / 2 * math.tan(math.radians(72)))
    assert _area(points) == pytest.approx(area, abs=1e-12)
    if area:
        assert Zone("door", points).points == points
    else:
        with pytest.raises(UsageError, match="the zone 'door' has no area; move its points apart"):
            Zone("door", points)


@settings(max_examples=80, deadline=None)
@given(CORNERS, st.integers(0, 6))
def test_the_area_is_that_of_the_mask_whatever_the_corners(points: tuple[Point, ...], shift: int) -> None:
    area = _area(points)
    shift %= len(points)
    assert _area(points[shift:] + points[:shift]) == pytest.approx(area, abs=1e-9)
    assert _area(points[::-1]) == pytest.approx(area, abs=1e-9)
    cells = np.rint((np.array(points) * SIDE - 0.5) * 256).astype(np.int32)
    mask = cv2.fillPoly(np.zeros((SIDE, SIDE), np.uint8), [cells], 1, shift=8)
    lengths = sum(math.dist(one, other) for one, other in zip(points, (*points[1:], points[0]), strict=True))
    assert abs(mask.mean() - area) <= (2 * lengths * SIDE + 4 * len(points)) / SIDE**2  # cells on the outline


@settings(max_examples=80, deadline=None)
@given(CORNERS, SHARE, SHARE)
def test_of_a_zone_that_is_refused_no_point_is_inside(points: tuple[Point, ...], x: float, y: float) -> None:
    try:
        Zone("door", points)
    except UsageError:
        outline = np.array(points, np.float32).reshape(-1, 1, 2)
        assert cv2.pointPolygonTest(outline, (x, y), measureDist=True) <= 1e-3


@pytest.mark.parametrize("anchor", Anchor)
def test_regions_are_in_both_halves_of_a_bow_tie_and_not_beside_them(anchor: Anchor) -> None:
    zone = _drawn(Zone("door", BOW_TIE, anchor), (64, 64))

    def inside(x: float, y: float) -> bool:
        corner = int(x * 64) - 1, int(y * 64) - 1
        mask = np.ones((3, 3), np.bool_)
        return _is_in(Track(1, "cat", 0.1, (0, 0, 9, 9), (x, y), (x, y), 0.9, 1.0, 0.0, ((x, y),), mask, corner), zone)

    found = [inside(x, y) for x, y in ((0.5, 0.1), (0.5, 0.9), (0.1, 0.5), (0.9, 0.5))]
    assert found == [True, True, False, False]
    assert zone.cells == pytest.approx(64 * 64 / 2, rel=0.05)
