"""Names of several datasets: one entry for one thing, and no name for two."""

from __future__ import annotations

import json
from pathlib import Path

from ovs_edge.data.names.category_names import CategoryNames, category_names
from ovs_edge.data.names.concepts import concept, reconcile


def _classes(*categories: str) -> tuple[CategoryNames, ...]:
    return tuple(map(category_names, categories))


def test_the_table_names_no_word_twice() -> None:
    table = json.loads((Path(__file__).parents[2] / "data/names/concepts.json").read_text(encoding="utf-8"))
    words = [word for name, others in table.items() for word in (name, *others)]
    assert len(words) == len(set(words))


def test_a_concept_has_one_plain_name_in_every_dataset() -> None:
    coco, voc = reconcile([_classes("couch", "airplane", "cat"), _classes("cat", "aeroplane", "sofa")])
    assert [entry.names[0] for entry in coco] == ["couch", "airplane", "cat"]
    assert voc == (coco[2], coco[1], coco[0])
    assert "sofa" in coco[0].names
    assert concept("TVmonitor") == concept("tv")


def test_a_concept_goes_by_a_name_that_the_data_have() -> None:
    """A name kept from training must not come back by the table."""
    (classes,) = reconcile([(CategoryNames(("sofa",), ()),)])
    assert classes[0].names == ("sofa",)


def test_a_name_that_two_concepts_claim_says_nothing_for_sure() -> None:
    things, streets, stuff = reconcile(
        [
            _classes("potted plant|plant", "dining table|table"),
            _classes("vegetation|tree|plant"),
            _classes("tree", "table"),
        ]
    )
    assert things[0].names == ("potted plant",)
    assert "plant" in things[0].related
    assert things[1].names == ("dining table",)
    assert streets[0].names == ("vegetation",)
    assert {"tree", "plant"} <= set(streets[0].related)
    assert stuff[0].names[0] == "tree"
    assert stuff[1].names[0] == "table"


def test_a_written_name_stays_where_another_one_is_only_drawn() -> None:
    """WordNet calls a motorcycle a bike, too; bicycles have the name from the file."""
    bicycle, motorcycle = reconcile([_classes("bicycle", "motorcycle")])[0]
    assert "bike" in bicycle.names
    assert "bike" not in motorcycle.all
    both = [name.casefold() for entry in (bicycle, motorcycle) for name in entry.all]
    assert len(both) == len(set(both))
