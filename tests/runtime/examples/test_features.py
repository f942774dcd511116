"""Vectors and proposals of regions, on features that are known."""

from __future__ import annotations

import numpy as np
import pytest

from ovs_edge.bundle.letterbox import Letterbox
from ovs_edge.runtime.examples.features import PlaceFeatures, QueryFeatures
from ovs_edge.runtime.examples.place_statistics import PlaceStatistics

LEFT, RIGHT = np.array([1.0, 0.0, 0.0], np.float32), np.array([0.0, 1.0, 0.0], np.float32)
NAMES = np.stack([LEFT, RIGHT])


def _places(statistics: PlaceStatistics | None = None) -> PlaceFeatures:
    """A frame of 60x80 in an input of 32x32 with places of 4x4: the left half is one thing, the right another."""
    letterbox = Letterbox.fit((60, 80), (32, 32))  # 24 rows of 32 are the frame
    boxes = np.array([(y, x, y + 4, x + 4) for y in range(0, 32, 4) for x in range(0, 32, 4)], np.int32)
    vectors = np.where((boxes[:, 1] < 16)[:, None], LEFT, RIGHT).astype(np.float32)
    vectors[boxes[:, 0] >= 24] = (0, 0, 1)  # padding
    return PlaceFeatures(vectors, boxes, letterbox, statistics)


def _half(right: bool) -> np.ndarray:
    mask = np.zeros((60, 80), np.bool_)
    mask[:, 40 * right : 40 + 40 * right] = True
    return mask


def test_a_region_is_the_mean_of_its_places() -> None:
    np.testing.assert_allclose(_places().vector(_half(right=False)), LEFT, atol=1e-6)
    np.testing.assert_allclose(_places().vector(_half(right=True)), RIGHT, atol=1e-6)
    both = _places().vector(np.ones((60, 80), np.bool_))
    np.testing.assert_allclose(both, np.array([1, 1, 0]) / np.sqrt(2), atol=1e-6)


def test_a_single_pixel_is_a_region() -> None:
    mask = np.zeros((60, 80), np.bool_)
    mask[59, 79] = True
    np.testing.assert_allclose(_places().vector(mask), RIGHT, atol=1e-6)


def test_statistics_take_away_what_all_places_share() -> None:
    mean = np.array([0.5, 0.5, 0.0], np.float32)
    statistics = PlaceStatistics(mean, np.diag([1.0, 4.0, 1.0]).astype(np.float32), np.zeros((0, 3), np.float32))
    found = _places(statistics).vector(_half(right=False))
    np.testing.assert_allclose(found, np.array([0.5, -2, 0]) / np.linalg.norm([0.5, -2]), atol=1e-6)


def test_what_a_region_is_taken_for() -> None:
    np.testing.assert_allclose(_places().winners(_half(right=True), NAMES), [0, 1], atol=1e-6)
    np.testing.assert_allclose(_places().winners(np.ones((60, 80), np.bool_), NAMES), [0.5, 0.5], atol=1e-6)


@pytest.mark.parametrize(("x", "right"), [(10, False), (70, True)])
def test_the_region_under_a_point(x: int, right: bool) -> None:
    found, wanted = _places().proposal(x, 30), _half(right=right)
    assert found[30, x]
    assert (found & wanted).sum() / (found | wanted).sum() > 0.85


def _queries() -> QueryFeatures:
    letterbox = Letterbox.fit((60, 80), (32, 32))
    masks = np.zeros((3, 8, 8), np.float32)
    masks[0, :, :4] = 0.9
    masks[1, :, 4:] = 0.9
    masks[2] = 0.2
    return QueryFeatures(np.stack([LEFT, RIGHT, np.array([0, 0, 1], np.float32)]), masks, letterbox)


@pytest.mark.parametrize(("x", "right"), [(10, False), (70, True)])
def test_queries(x: int, right: bool) -> None:
    region = _half(right=right)
    vector = _queries().vector(region)
    assert vector @ NAMES[int(right)] > 0.95
    assert _queries().winners(region, NAMES)[int(right)] > 0.9
    found = _queries().proposal(x, 30)
    assert (found & region).sum() / (found | region).sum() > 0.85
