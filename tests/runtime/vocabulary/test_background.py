"""What competes in silence, and what steps back."""

from __future__ import annotations

import numpy as np
import pytest

from ovs_edge.bundle.vocabulary import ClassNames, Vocabulary
from ovs_edge.runtime.vocabulary.background import (
    GROUPS,
    LABEL,
    MAX_NAMES,
    MAX_ROWS,
    Background,
    Spellings,
    names,
    room,
    with_background,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "Cats"),
        ("light", "traffic lights"),
        ("yellow car", "car"),
        ("people", "person"),
        ("person", "pedestrian"),
        ("woman", "person"),
        ("bus", "buses"),
        ("city", "Cities"),
        ("traffic-light", "light"),
        ("🐱", "🐱"),
    ],
)
def test_names_that_mean_the_same(one: str, other: str) -> None:
    assert Spellings.of([one]).match(other) and Spellings.of(["unrelated thing", other]).match(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "cattle"),
        ("car", "carpet"),
        ("traffic", "traffic light"),
        ("sea", "seal"),
        ("glass", "grass"),
        ("🐱", "🐶"),
    ],
)
def test_names_that_mean_different_things(one: str, other: str) -> None:
    assert not Spellings.of([one]).match(other) and not Spellings.of([other]).match(one)


def _basis(count: int) -> np.ndarray:
    return np.eye(count, dtype=np.float32)


def test_a_class_steps_back_whole() -> None:
    trained = (("car", "automobile"), ("dog",), ("sky", "heaven"))
    background = Background(trained, _basis(5))
    assert background.away_from(["cars"], np.zeros((1, 5), np.float32)) == ["dog", "sky", "heaven"]
    assert background.away_from(["heaven"], np.zeros((1, 5), np.float32)) == ["car", "dog", "automobile"]


def test_near_vectors_step_back_whatever_all_prompts_share() -> None:
    count = 10
    # A large shared part, as text encoders have it: raw cosines between any two names exceed 0.9.
    vectors = np.hstack([_basis(count), np.full((count, 1), 4, np.float32)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    background = Background([(f"word{n}x",) for n in range(count)], vectors)
    kept = background.away_from(["something else"], vectors[3:4])
    assert kept == [f"word{n}x" for n in range(count) if n != 3]


def test_every_class_keeps_its_first_name_before_any_its_second() -> None:
    background = Background((("a", "a2", "a3"), ("b",), ("c", "c2")), _basis(6))
    assert background.away_from(["z"], np.zeros((1, 6), np.float32)) == ["a", "b", "c", "a2", "c2", "a3"]


def test_similar_names_share_a_background_class() -> None:
    """Names around 12 far-off directions: neighbours stay together, every name is somewhere, the limit cuts last names."""
    rng = np.random.default_rng(0)
    centres = np.eye(12, dtype=np.float32)
    vectors = np.concatenate([centre + 0.02 * rng.standard_normal((4, 12)) for centre in centres]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    entries = [(f"c{centre}n{name}",) for centre in range(12) for name in range(4)]
    background = Background(entries, vectors)
    chosen = [name for (name,) in entries]
    groups = background.groups(chosen)
    assert sorted(name for group in groups for name in group) == sorted(chosen)
    assert len(groups) <= GROUPS
    for centre in range(12):
        assert sum(any(name.startswith(f"c{centre}n") for name in group) for group in groups) == 1
    assert all(len(group) <= 3 for group in background.groups(chosen, most=3))
    assert Background(entries, vectors).groups(chosen) == groups


def test_trained_classes_can_stay_apart() -> None:
    background = Background((("a", "a2", "a3"), ("b",), ("c", "c2")), _basis(6))
    chosen = background.away_from(["b"], np.zeros((1, 6), np.float32))
    assert background.apart(chosen) == [["a", "a2", "a3"], ["c", "c2"]]
    assert background.apart(chosen, most=1) == [["a"], ["c"]]
    assert background.apart(["c2"]) == [["c2"]]


def test_the_tensor_stays_small() -> None:
    for classes in (1, 5, 50, 500, 5000):
        assert 1 <= max(room(classes, 1), 1) <= MAX_NAMES
        assert (classes + GROUPS) * room(classes, 1) <= max(MAX_ROWS, classes + GROUPS)
    assert room(3, 1) == MAX_NAMES


def test_background_classes_come_last() -> None:
    asked = Vocabulary((ClassNames("a", ("a",)),), np.ones((1, 1, 3), np.float32))
    rivals = [(["x", "y"], np.full((2, 3), 2, np.float32)), ([], np.zeros((0, 3), np.float32))]
    both = with_background(asked, rivals)
    assert both.labels == ("a", LABEL)
    assert both.vectors.tolist() == [[[1, 1, 1], [0, 0, 0]], [[2, 2, 2], [2, 2, 2]]]
    assert with_background(asked, []) is asked


def test_names_are_distinct() -> None:
    assert names((("a", "b"), ("b", "c"))) == ["a", "b", "c"]


def test_a_class_steps_back_for_what_overlaps_it() -> None:
    background = Background([["face"], ["wheel", "tyre"], ["tree"]], np.eye(4, dtype=np.float32), {"wheel": ["car"]})
    assert background.away_from(["car"], np.zeros((1, 4), np.float32)) == ["face", "tree"]
    assert background.away_from(["wheel"], np.zeros((1, 4), np.float32)) == ["face", "tree"]
    assert background.away_from(["dog"], np.zeros((1, 4), np.float32)) == ["face", "wheel", "tree", "tyre"]


@pytest.mark.parametrize(
    ("asked", "worn"),
    [
        (["person"], {"tie", "necktie", "Hats"}),
        (["cat", "young women"], {"tie", "necktie", "Hats"}),
        (["person", "tie"], {"tie", "necktie", "Hats"}),
        (["face"], set()),
        (["cat", "🐱"], set()),
        ([], set()),
    ],
)
def test_people_keep_their_clothes(asked: list[str], worn: set[str]) -> None:
    background = Background((("person",), ("tie", "necktie"), ("Hats",), ("hat stand",), ("handbag",)), _basis(6))
    assert background.worn(asked) == worn
