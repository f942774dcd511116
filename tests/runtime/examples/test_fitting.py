"""Vectors fitted to win a region: where plain ones find nothing, and which of the two a class is made of."""

from __future__ import annotations

import numpy as np
import pytest

from ovs_edge.bundle.letterbox import Letterbox
from ovs_edge.runtime.examples.features import PlaceFeatures
from ovs_edge.runtime.examples.fitting import FittedVector, PicturePlaces, fit_vector
from ovs_edge.runtime.examples.place_statistics import PlaceStatistics
from ovs_edge.runtime.examples.shown_classes import Example, ShownClass
from ovs_edge.runtime.examples.text_space import ProjectedTextSpace, TextSpace

CHANNELS = 6
# All places point along the first axis, and so do the names: what sets a place apart is small beside it.
NAMES = np.array([[0.7, 0.714, 0, 0, 0, 0], [0.7, 0, 0.714, 0, 0, 0]], np.float32)
THING = np.array([10, 0, 0, 6, 0, 0], np.float32)
OTHER = np.array([10, 6, 0, 0, 0, 0], np.float32)


def _places(count: int = 60) -> PicturePlaces:
    """A third of the places show the thing, the rest something that has a name."""
    noise = np.random.default_rng(1).standard_normal((count, CHANNELS)).astype(np.float32) * 0.3
    share = (np.arange(count) < count // 3).astype(np.float32)
    return PicturePlaces(np.where(share[:, None] > 0, THING, OTHER) + noise, share, share)


def _everyday() -> np.ndarray:
    covariance = np.diag([1.0, 4, 4, 4, 1, 1e-6])
    return PlaceStatistics.of(np.array([10.0, 0, 0, 0, 0, 0]), covariance).everyday


def test_a_fitted_vector_wins_its_region_and_no_more() -> None:
    plain = np.array([0, 0, 0, 1, 0, 0], np.float32)  # what sets the thing apart; far too weak against the names
    fitted = fit_vector(plain, _places(), _everyday(), NAMES)
    assert np.linalg.norm(fitted.vector) == pytest.approx(1, abs=1e-5)
    assert fitted.found_plain == 0
    assert fitted.found > 0.95


def test_fitting_is_the_same_every_time() -> None:
    plain = np.array([0, 0, 0, 1, 0, 0], np.float32)
    once, again = (fit_vector(plain, _places(), _everyday(), NAMES) for _ in range(2))
    np.testing.assert_array_equal(once.vector, again.vector)


def test_of_a_picture_padding_does_not_count() -> None:
    letterbox = Letterbox.fit((24, 32), (32, 32))
    boxes = np.array([(y, x, y + 4, x + 4) for y in range(0, 32, 4) for x in range(0, 32, 4)], np.int32)
    vectors = np.where((boxes[:, 1] < 16)[:, None], THING, OTHER).astype(np.float32)
    padding = boxes[:, 0] >= 24
    vectors[padding] = THING  # were it compared, the region would be half of what is won
    statistics = PlaceStatistics.of(np.array([10.0, 0, 0, 0, 0, 0]), np.diag([1.0, 4, 4, 4, 1, 1e-6]))
    mask = np.zeros((24, 32), np.bool_)
    mask[:, :16] = True
    fitted = PlaceFeatures(vectors, boxes, letterbox, statistics).fitted(mask, NAMES)
    assert fitted is not None
    assert fitted.found > 0.95
    assert (
        PlaceFeatures(vectors, boxes, letterbox, statistics).fitted(mask, NAMES[:0]) is None
    )  # nothing to win against
    assert PlaceFeatures(vectors, boxes, letterbox, None).fitted(mask, NAMES) is None


def test_a_direction_that_no_place_uses() -> None:
    unused = PlaceStatistics.of(np.ones(3), np.diag([1.0, 1, 1])).unused
    assert unused is None
    covariance = np.diag([4.0, 4, 1e-6])
    unused = PlaceStatistics.of(np.array([1.0, 2, 0]), covariance).unused
    assert unused is not None
    np.testing.assert_allclose(np.abs(unused), [0, 0, 1], atol=1e-3)


def test_a_weighted_vector_is_weaker_on_every_place() -> None:
    generator = np.random.default_rng(0)
    unused = np.array([0, 0, 0, 1], np.float32)
    space = ProjectedTextSpace(generator.standard_normal((8, 4)), np.zeros(4), unused)
    vectors = np.array([[0.6, 0.8, 0, 0], [0.6, 0, 0.48, 0.64]], np.float32)
    weighted = space.weighted(vectors, 0.9)
    np.testing.assert_allclose(np.linalg.norm(weighted, axis=1), 1, atol=1e-6)
    places = np.array([[3, 1, 2, 0], [1, -5, 2, 0]], np.float32)
    np.testing.assert_allclose(places @ weighted[0], 0.9 * places @ vectors[0], atol=1e-5)
    np.testing.assert_allclose(np.einsum("nc,nc->n", weighted, vectors), 0.9, atol=1e-6)
    np.testing.assert_array_equal(TextSpace().weighted(vectors, 0.9), vectors)


@pytest.mark.parametrize(("plain_finds", "used"), [(0.04, "fitted"), (0.06, "plain")])
def test_fitted_vectors_are_used_where_plain_ones_find_nothing(plain_finds: float, used: str) -> None:
    plain, fitted = np.eye(2, dtype=np.float32)
    examples = [Example(plain, fitted=FittedVector(fitted, 0.5, plain_finds)) for _ in range(2)]
    rows = ShownClass.of("mug", examples, TextSpace()).rows
    np.testing.assert_allclose(rows, [fitted if used == "fitted" else plain], atol=1e-6)
    mixed = ShownClass.of("mug", [*examples, Example(plain)], TextSpace()).rows  # one that was never fitted
    np.testing.assert_allclose(mixed, rows, atol=1e-6)
