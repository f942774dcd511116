"""Text diversification against values worked out by hand."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from ovs_edge.data.datasets import SegmentationDataset
from ovs_edge.data.names.category_names import CategoryNames
from ovs_edge.training.text.diversify import draw_name, likely_names
from ovs_edge.training.text.vocabulary import DatasetVocabulary, NamesMode

# Unit vectors in the plane, by their angle.
ANGLES = {"cat": 0, "kitten": 60, "tomcat": 90, "dog": 180, "hound": 240}


def _unit(degrees: float) -> Tensor:
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


class _Encoder:
    def encode(self, names: list[str]) -> Tensor:
        return torch.stack([_unit(ANGLES[name]) for name in names])


def _vocabulary(mode: NamesMode) -> DatasetVocabulary:
    classes = (CategoryNames(("cat", "kitten"), (), ("tomcat",)), CategoryNames(("dog",), (), ("hound",)))
    return DatasetVocabulary(SegmentationDataset("pets", classes, (), ()), _Encoder(), mode)  # type: ignore[arg-type]


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_likely_names_by_hand() -> None:
    """At temperature 0.1: exp(5), exp(4), exp(0) give 0.727, 0.268, 0.005."""
    similarity = torch.tensor([0.5, 0.4, 0.0])
    assert likely_names(similarity, 0.1).tolist() == [0, 1]
    # exp(0.5), exp(0.4), exp(0) give 0.40, 0.36, 0.24 at temperature 1.
    assert likely_names(similarity, 1.0).tolist() == [0, 1, 2]


def test_of_many_equal_names_the_likeliest_is_taken() -> None:
    similarity = torch.zeros(20)
    similarity[7] = 0.01  # no name reaches a probability of 0.1
    assert likely_names(similarity).tolist() == [7]


def test_draws_are_even_among_the_likely_and_take_one_random_number() -> None:
    similarity = torch.tensor([0.5, 0.4, 0.0])
    generator = _generator()
    drawn = Counter(draw_name(similarity, generator, known=True) for _ in range(2000))
    assert set(drawn) == {0, 1}
    assert drawn[0] == pytest.approx(1000, abs=100)
    unknown = Counter(draw_name(similarity, generator, known=False) for _ in range(3000))
    assert [unknown[index] for index in range(3)] == pytest.approx([1000] * 3, abs=120)
    one, other = _generator(), _generator()
    draw_name(similarity, one, known=True), draw_name(torch.zeros(1), other, known=False)
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=other))


def test_regions_go_by_names_that_fit_them() -> None:
    vocabulary = _vocabulary("draw")
    # Cosines of 75 degrees with cat, kitten, tomcat: 0.26, 0.97, 0.97; of 180 with dog, hound: 1, 0.5.
    teacher = torch.stack((_unit(75), _unit(180)))
    for seed in range(20):
        drawn = vocabulary.draw_regions(torch.tensor([0, 1]), teacher, torch.Generator().manual_seed(seed))
        assert any(torch.allclose(drawn[0], _unit(angle), atol=1e-6) for angle in (60, 90))
        assert torch.allclose(drawn[1], _unit(180), atol=1e-6)
    assert vocabulary.draw_regions(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2), _generator()).shape == (0, 2)


def test_names_of_absent_classes_are_drawn_from_all_their_names() -> None:
    vocabulary = _vocabulary("draw")
    drawn = [vocabulary.draw_absent(torch.tensor([1]), torch.Generator().manual_seed(seed)) for seed in range(60)]
    assert {row.shape for row in drawn} == {(1, 2)}
    angles = {min(ANGLES, key=lambda name: float((row[0] - _unit(ANGLES[name])).norm())) for row in drawn}
    assert angles == {"cat", "kitten", "tomcat"}
    assert vocabulary.draw_absent(torch.tensor([0, 1]), _generator()).shape == (0, 2)


def test_modes_name_classes_as_they_say() -> None:
    plain = torch.stack((_unit(0), _unit(180)))
    for mode in ("plain", "draw"):
        assert torch.allclose(_vocabulary(mode).names(_generator())[:, 0], plain, atol=1e-6)
    most = _vocabulary("max").names(_generator())
    assert most.shape == (2, 3, 2)
    assert torch.equal(most[1, 2], torch.zeros(2))  # a zero row is no name
    mean = _vocabulary("mean").names(_generator())[:, 0]
    # cat, kitten, tomcat at 0, 60 and 90 degrees: the sum is (1.5, 1.866); dog and hound: 210 degrees.
    assert mean[0].tolist() == pytest.approx([1.5 / math.hypot(1.5, 1.866), 1.866 / math.hypot(1.5, 1.866)], abs=1e-3)
    assert torch.allclose(mean[1], _unit(210), atol=1e-6)
    assert _vocabulary("random").words == [("cat", "kitten"), ("dog",)]  # hand-written names only
