"""Seen and unseen categories: what is hidden stays hidden, and both are scored as defined."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.photos import write_index_masks

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data.datasets import SegmentationDataset, open_dataset
from ovs_edge.data.names.category_names import CategoryNames, category_names
from ovs_edge.training.splits import Split, check_known, hide, read_split, score
from ovs_edge.training.validate import validation_scores


def _named(*categories: str) -> SegmentationDataset:
    return SegmentationDataset("named", tuple(map(category_names, categories)), (), ())


def test_unseen_pixels_lose_their_label_and_the_rest_keeps_its_class(tmp_path: Path) -> None:
    dataset = open_dataset(write_index_masks(tmp_path / "shapes"), "train")
    hidden = hide(dataset, Split(("grass",), {}))
    assert [category.names[0] for category in hidden.classes] == ["sky", "brick wall"]
    for index in range(len(dataset)):
        before, after = dataset.load(index).labels, hidden.load(index).labels
        assert (after[(before == 0) | (before == 255)] == 255).all()
        assert (after[before == 1] == 0).all()
        assert (after[before == 2] == 1).all()
    # Twice hidden: the second split counts in the classes that the first has left.
    twice = hide(hidden, Split(("sky",), {}))
    assert [category.names[0] for category in twice.classes] == ["brick wall"]
    before, after = dataset.load(0).labels, twice.load(0).labels
    assert ((after == 0) == (before == 2)).all()


def test_an_unseen_category_is_hidden_under_every_name() -> None:
    split = Split(("aeroplane", "chair"), {})
    dataset = _named("airplane", "folding chair", "armchair", "truck", "aeroplane")
    assert [category.names[0] for category in hide(dataset, split).classes] == ["armchair", "truck"]


def test_unseen_and_reserved_names_are_never_spoken() -> None:
    split = Split(("bicycle",), {"cow": "cattle", "chair": "seat"})
    names = {category.names[0]: category for category in hide(_named("motorcycle", "cow", "toilet"), split).classes}
    assert "bike" in category_names("motorcycle").all
    assert "trail bike" in category_names("motorcycle").all
    assert not [name for name in names["motorcycle"].all if "bike" in name.split()]
    assert "motorbike" in names["motorcycle"].all
    assert {"cattle", "dairy cattle"} <= set(category_names("cow").all)
    assert not [name for name in names["cow"].all if "cattle" in name]
    # A name that another category keeps is not spoken as it stands; longer ones have nothing to do with it.
    category = CategoryNames(("toilet",), ("bike",), ("seat", "toilet seat"))
    assert split.allowed(category) == CategoryNames(("toilet",), (), ("toilet seat",))


def test_a_seen_plain_name_survives_being_reserved_elsewhere() -> None:
    assert Split(("cat",), {"road": "street"}).allowed(CategoryNames(("street",), (), ())).names == ("street",)


def test_scores_by_hand() -> None:
    classes = tuple(map(category_names, ("cow", "sheep", "sky", "cat")))
    counts = np.array([[6, 2, 0, 0, 0], [3, 1, 0, 0, 0], [0, 0, 8, 0, 2], [0, 0, 0, 0, 0]])
    result = score(counts, classes, Split(("sheep", "cat"), {}))
    # cow: 6 of 8 true and 9 claimed; sheep: 1 of 4 and 3; sky: 8 of 10 and 8; no cat is there.
    cow, sheep, sky = 6 / 11, 1 / 6, 8 / 10
    assert result.per_class == pytest.approx({"cow": cow, "sheep": sheep, "sky": sky})
    assert result.seen == pytest.approx((cow + sky) / 2)
    assert result.unseen == pytest.approx(sheep)
    assert result.harmonic == pytest.approx(2 * result.seen * sheep / (result.seen + sheep))


def test_a_validation_reports_what_its_photos_can_tell() -> None:
    dataset = _named("cow", "sheep", "cat")
    counts = np.array([[6, 2, 0, 0], [3, 1, 0, 0], [0, 0, 0, 0]])
    cow, sheep = 6 / 11, 1 / 6
    assert validation_scores(counts, dataset, None) == pytest.approx({"named": (cow + sheep) / 2})
    assert validation_scores(counts, dataset, Split(("sheep",), {})) == pytest.approx(
        {
            "named": (cow + sheep) / 2,
            "named/seen": cow,
            "named/unseen": sheep,
            "named/harmonic": 2 * cow * sheep / (cow + sheep),
        }
    )
    # No cat is there to be found, so neither is it missed.
    assert set(validation_scores(counts, dataset, Split(("cat",), {}))) == {"named", "named/seen"}


def test_nothing_found_has_a_harmonic_mean_of_zero() -> None:
    counts = np.array([[0, 4, 0], [4, 0, 0]])
    assert score(counts, tuple(map(category_names, ("cow", "sheep"))), Split(("sheep",), {})).harmonic == 0.0


def test_a_split_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"unseen": ["cat"], "reserved": {"cow": "cattle"}}))
    assert read_split(path) == Split(("cat",), {"cow": "cattle"})
    path.write_text(json.dumps({"unseen": ["cat"]}))
    assert read_split(path).reserved == {}


@given(st.one_of(st.text(max_size=40), st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps)))
def test_a_file_that_is_no_split_is_one_line(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.json"
        path.write_text(text, encoding="utf-8", errors="replace")
        with pytest.raises(DatasetError, match="expected"):
            read_split(path)


@pytest.mark.parametrize(
    "content",
    [
        {"unseen": []},
        {"unseen": "cat"},
        {"unseen": [1]},
        {"unseen": ["cat"], "reserved": ["x"]},
        {"seen": []},
        {"unseen": ["|"]},
    ],
)
def test_a_split_that_makes_no_sense(tmp_path: Path, content: object) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="expected"):
        read_split(path)


def test_a_misspelt_category_does_not_leak() -> None:
    check_known([_named("cat"), _named("boat")], Split(("boat", "cat"), {}))
    with pytest.raises(DatasetError, match="'boats here' as unseen"):
        check_known([_named("cat"), _named("boat")], Split(("cat", "boats here"), {}))
    with pytest.raises(DatasetError, match="leaves no category"):
        hide(_named("cat"), Split(("cat",), {}))
