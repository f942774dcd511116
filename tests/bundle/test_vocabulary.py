"""Classes as users type them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.vocabulary import MAX_NAME, ClassNames, Vocabulary, parse_classes, stack_names


def test_synonyms_and_white_space() -> None:
    assert parse_classes(" person ,bike|bicycle |  two   wheeler,", 10) == (
        ClassNames("person", ("person",)),
        ClassNames("bike", ("bike", "bicycle", "two wheeler")),
    )


def test_repeated_names_and_names_that_differ_in_case_are_one_class() -> None:
    assert parse_classes("Cat,cat,CAT|kitten,dog|Dog", 10) == (
        ClassNames("Cat", ("Cat",)),
        ClassNames("kitten", ("kitten",)),
        ClassNames("dog", ("dog",)),
    )


def test_a_list_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("# what we look for\nperson\nbike|bicycle\n\nsky, tree\n", encoding="utf-8-sig")
    assert [entry.label for entry in parse_classes(f"@{file}", 10)] == ["person", "bike", "sky", "tree"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" , |,", "empty"),
        ("x" * 5000, "5000 characters"),
        (",".join(f"name {n}" for n in range(10_000)), "10000 classes"),
        ("|".join(f"name {n}" for n in range(100)), "100 names"),
        ("per\x07son", "control characters"),
        ("per\udcffson", r"'per\\xffson' is not UTF-8 text"),
        ("@no/such/file", "cannot read"),
    ],
)
def test_impossible_lists_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        parse_classes(text, 500)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@given(st.text(max_size=400).filter(lambda text: not text.startswith("@")), st.integers(1, 5))
def test_any_text_is_classes_or_one_line_of_error(text: str, limit: int) -> None:
    try:
        classes = parse_classes(text, limit)
    except UsageError as error:
        assert "\n" not in str(error)
        return
    names = [name.casefold() for entry in classes for name in entry.names]
    assert 1 <= len(classes) <= limit
    assert len(names) == len(set(names))
    assert all(entry.label == entry.names[0] for entry in classes)
    assert all(
        name == " ".join(name.split()) and 1 <= len(name) <= MAX_NAME for entry in classes for name in entry.names
    )
    # What was understood reads back as itself.
    assert parse_classes(",".join("|".join(entry.names) for entry in classes), limit) == classes


def test_stacking_pads_with_zero_rows() -> None:
    stacked = stack_names([np.ones((1, 3), np.float32), np.ones((2, 3), np.float32)], 3)
    assert stacked.shape == (2, 2, 3)
    assert stacked.sum(axis=2).tolist() == [[3, 0], [3, 3]]


def test_a_vocabulary_checks_its_vectors() -> None:
    with pytest.raises(UsageError, match="K = 1"):
        Vocabulary((ClassNames("a", ("a",)),), np.zeros((2, 1, 3), np.float32))
