"""What a name is to the model, in words."""

from __future__ import annotations

import pytest

from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.vocabulary.reading import Reading, suggestion


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        (Reading("cat", trained=True), "cat: a trained name"),
        (Reading("猫", trained=False, readable=False), "猫: the text encoder cannot read it; use English words"),
        (
            Reading("hair", trained=False, nearest="person", similarity=0.31),
            "hair: never trained; nearest: person 0.31",
        ),
        (Reading("persn", trained=False, suggestion="person"), "persn: not a trained name; did you mean person?"),
        (Reading("x", trained=False), "x: the bundle lists no trained names"),
    ],
)
def test_in_words(reading: Reading, says: str) -> None:
    assert str(reading) == says


def test_a_word_that_is_known_as_a_whole_is_no_misspelling() -> None:
    assert suggestion("hair", ["hair"], ["chair", "person"]) is None
    assert suggestion("persn", ["per", "##s", "##n"], ["chair", "Person"]) == "Person"
    assert suggestion("bycicle", ["by", "##cic", "##le"], ["bottle", "bicycle"]) == "bicycle"
    assert suggestion("qwrtz", ["q", "##w"], ["chair"]) is None


def test_the_embedded_model_reads() -> None:
    with Segmenter.load() as segmenter:
        assert segmenter.reading("Person").trained
        assert segmenter.reading("persn").suggestion == "person"
        edifice = segmenter.reading("skyscraper")
        assert not edifice.trained and edifice.nearest is not None and edifice.similarity > 0.2
        assert not segmenter.reading("🐱").readable
        assert segmenter.reading("hair").suggestion is None
