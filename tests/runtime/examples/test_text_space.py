"""Vectors that a network compares, back to text vectors that it takes for them."""

from __future__ import annotations

import numpy as np
import pytest

from ovs_edge.bundle.errors import BundleError
from ovs_edge.runtime.examples.text_space import ProjectedTextSpace, TextSpace
from ovs_edge.runtime.vocabulary.centring import unit


def test_every_direction_has_a_text_vector() -> None:
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((24, 8)).astype(np.float32) * 3
    space = ProjectedTextSpace(weight, generator.standard_normal(8).astype(np.float32))
    wanted = unit(generator.standard_normal((50, 8)).astype(np.float32))
    text = space.to_text(wanted)
    assert text.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, atol=1e-4)  # so the graph leaves them as they are
    np.testing.assert_allclose(space.from_text(text), wanted, atol=1e-5)
    np.testing.assert_allclose(space.from_text(7 * text), wanted, atol=1e-5)  # of any length


def test_the_text_space_itself() -> None:
    vectors = np.array([[3.0, 4.0]], np.float32)
    np.testing.assert_allclose(TextSpace().to_text(vectors), [[0.6, 0.8]], atol=1e-6)
    np.testing.assert_allclose(TextSpace().from_text(vectors), [[0.6, 0.8]], atol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_projection_without_an_inverse_is_refused(value: float) -> None:
    weight = np.eye(6, 3, dtype=np.float32)
    weight[2, 2] = value
    with pytest.raises((BundleError, np.linalg.LinAlgError)):
        ProjectedTextSpace(weight, np.zeros(3, np.float32))
