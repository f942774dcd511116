"""Sensitivity: what is left out of the background, what is taken over, and how the background is weighted."""

from __future__ import annotations

import numpy as np
import pytest

from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.vocabulary import ClassNames, parse_class_entries, parse_classes
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.vocabulary.background import Background
from ovs_edge.runtime.vocabulary.sensitivity import DENSE_RULES, PUBLISHED_RULES, RULES, Sensitivity

RNG = np.random.default_rng(0)
NAMES = [[f"name {index}"] for index in range(20)]


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def test_weighting_scales_cosines_with_what_resembles_trained_names() -> None:
    vectors = unit(RNG.standard_normal((20, 32)))
    background = Background(NAMES, vectors)
    queries = unit(RNG.standard_normal((50, 20)) @ vectors)  # in the span of the trained names
    for weight in (0.9, 0.5):
        weighted = background.weighted(vectors[:7], weight)
        np.testing.assert_allclose(np.linalg.norm(weighted, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(weighted @ queries.T, weight * (vectors[:7] @ queries.T), atol=1e-5)
    assert background.weighted(vectors, 1.0) is vectors


def test_vectors_that_use_every_direction_are_not_weighted() -> None:
    vectors = unit(RNG.standard_normal((20, 4)))
    assert Background(NAMES, vectors).weighted(vectors, 0.5) is vectors


def test_near_names_are_taken_over_by_the_nearest_class() -> None:
    vectors = unit(RNG.standard_normal((20, 32)))
    asked = unit(vectors[[3, 5]] + 0.02 * RNG.standard_normal((2, 32)))
    background = Background(NAMES, vectors)
    assert background.taken_over(["cup", "road"], asked, 0.8) == {"cup": ["name 3"], "road": ["name 5"]}
    assert background.taken_over(["name 3", "road"], asked, 0.8) == {"road": ["name 5"]}  # it is asked for itself
    assert background.taken_over([], asked[:0], 0.8) == {}
    assert background.nearest(asked[0]) == ("name 3", pytest.approx(1, abs=0.05))


def test_more_sensitive_is_more_found() -> None:
    for rules in (RULES, DENSE_RULES, PUBLISHED_RULES):
        for field in ("weight", "drop", "margin"):
            values = [getattr(rules[level], field) for level in Sensitivity]
            assert values == sorted(values, reverse=True)


def test_a_cup_alone_is_found_on_the_coffee_photo() -> None:
    """Its background names, a dining table among them, must not take the cup."""
    data = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    image = cv2.imread(str(data.__path__[0]) + "/coffee.png")
    painted = {}
    with Segmenter.load() as segmenter:
        for level in ("low", "normal", "high"):
            segmenter.sensitivity = level
            segmenter.set_classes("cup")
            painted[level] = segmenter.predict(image).labels == 0
        assert painted["low"].sum() < painted["normal"].sum() <= painted["high"].sum()
        y, x = 200, 300  # the coffee in the cup
        assert painted["normal"][y, x] and 0.1 < painted["normal"].mean() < 0.4
        version = segmenter.active.version
        segmenter.sensitivity, segmenter.threshold = "low", 0.4  # in force for the next frame
        assert segmenter.active.version > version
        assert segmenter.effective_threshold == pytest.approx(0.6)
        segmenter.threshold = 0.9
        assert segmenter.effective_threshold == pytest.approx(0.95)
        segmenter.threshold = 1.0
        assert segmenter.effective_threshold == 1.0
        with pytest.raises(UsageError, match="low, normal or high"):
            segmenter.sensitivity = "medium"


def test_a_class_may_have_its_own_threshold() -> None:
    parsed = parse_classes("cup:0.2,a:b,c:2,d|e:.5,12:30,person", 9)
    assert [(entry.label, entry.threshold) for entry in parsed] == [
        ("cup", 0.2), ("a:b", None), ("c:2", None), ("d", 0.5), ("12:30", None), ("person", None),
    ]  # fmt: skip
    assert parse_class_entries([str(entry) for entry in parsed], 9) == parsed
    assert str(ClassNames("d", ("d", "e"), 0.5)) == "d|e:0.5"
    for wrong, says in (
        ("cat:1e400", "threshold from 0 to 1"), ("cat:-1", "threshold"), ("cat: 1.5", "threshold"), ("cat:", "threshold"),
        ("cat:20%", "threshold"), ("dog,cat:nan", "threshold"), (":0.2", "no name before"), ("cat,@more.txt", "give the file alone"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=says):
            parse_classes(wrong, 9)


def test_the_own_threshold_holds(tiny_bundle: object) -> None:
    image = np.full((48, 64, 3), (0, 120, 120), np.uint8)  # a dark yellow, of which nothing is certain
    image[:, 32:] = (255, 0, 0)
    with Segmenter.load(tiny_bundle, background="none", threshold=0.99, threads=1) as segmenter:  # type: ignore[arg-type]
        segmenter.set_classes("red,green,blue")
        assert {region.label for region in segmenter.predict(image).regions()} <= {"blue"}
        segmenter.set_classes("red:0.1,green:0.1,blue")
        assert {region.label for region in segmenter.predict(image).regions()} & {"red", "green"}
