"""Names of categories: hand-written ones, WordNet's, and how the latter are extracted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ovs_edge.bundle.errors import DatasetError
from ovs_edge.data.names.category_names import CategoryNames, category_names, distinct_names, plain_name
from ovs_edge.data.names.synonyms import MOST_RELATED, app, extract, shipped_senses, to_text
from ovs_edge.data.names.wordnet import WordNet

INSTALLED = Path("/usr/share/wordnet")
SHIPPED = Path(__file__).parents[2] / "data" / "names" / "synonyms.json"


def _shipped() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return document


def _entry(offset: int, lemmas: list[str], pointers: list[tuple[str, int]], gloss: str) -> str:
    """A line of data.noun: lexicographer file 06, lemma number i of its file."""
    words = " ".join(f"{lemma.replace(' ', '_')} {number:x}" for number, lemma in enumerate(lemmas))
    links = "".join(f"{symbol} {target:08d} n 0000 " for symbol, target in pointers)
    return f"{offset:08d} 06 n {len(lemmas):02x} {words} {len(pointers):03d} {links}| {gloss}  \n"


@pytest.fixture
def tiny_wordnet(tmp_path: Path) -> Path:
    """Four senses: two of "crane", a kind and an instance of the machine."""
    licence = "  1 A licence stands above the entries.  \n"
    entries = [
        (["crane", "Grus grus"], [], "a wading bird"),
        (["crane", "hoist", "lifting machine"], [("~", 2), ("~i", 3)], 'a machine that lifts; "the crane broke"'),
        (["tower crane", "derrick", "dock hoist", "crane barge"], [("@", 1)], "a tall crane"),
        (["Titan crane"], [("@i", 1)], "a crane in Clydebank"),
    ]
    offsets = [len(licence)]
    for lemmas, pointers, gloss in entries:
        offsets.append(offsets[-1] + len(_entry(0, lemmas, [(symbol, 0) for symbol, _ in pointers], gloss)))
    data = "".join(
        _entry(offset, lemmas, [(symbol, offsets[target]) for symbol, target in pointers], gloss)
        for offset, (lemmas, pointers, gloss) in zip(offsets, entries, strict=False)
    )
    (tmp_path / "data.noun").write_text(licence + data)
    places: dict[str, list[int]] = {}
    for offset, (lemmas, _, _) in zip(offsets, entries, strict=False):
        for lemma in lemmas:
            places.setdefault(lemma.casefold().replace(" ", "_"), []).append(offset)
    lines = [
        f"{lemma} n {len(found)} 1 @ {len(found)} 0 {' '.join(f'{offset:08d}' for offset in found)}  \n"
        for lemma, found in places.items()
    ]
    (tmp_path / "index.noun").write_text(licence + "".join(lines))
    return tmp_path


def test_wordnet_files_are_read(tiny_wordnet: Path) -> None:
    wordnet = WordNet(tiny_wordnet)
    bird, machine = wordnet.senses("crane")
    assert bird.lemmas == ("crane", "Grus grus")
    assert machine.keys == ("crane%1:06:00::", "hoist%1:06:01::", "lifting_machine%1:06:02::")
    assert machine.gloss == "a machine that lifts"
    assert [wordnet.synset(offset).lemmas[0] for offset in machine.hyponyms] == ["tower crane", "Titan crane"]
    assert wordnet.senses("unheard") == []
    assert wordnet.sense("hoist%1:06:01::") == machine
    with pytest.raises(DatasetError, match="no noun sense crane%1:18:00::"):
        wordnet.sense("crane%1:18:00::")


def test_extraction_follows_its_rule(tiny_wordnet: Path) -> None:
    """Lemmas of the chosen sense; multiword kin with a lemma's last word, without proper names and omitted words."""
    senses = {
        "categories": {
            "crane": {"senses": ["hoist%1:06:01::"], "omit": ["lifting machine"]},
            "harbour crane": {"senses": ["hoist%1:06:01::"], "kinds": False},
            "stop sign": {"senses": []},
        }
    }
    document = extract(WordNet(tiny_wordnet), senses)["categories"]
    assert document["crane"]["synonyms"] == ["hoist"]
    assert document["crane"]["multiword"] == ["tower crane", "dock hoist"]  # no "crane barge", no "Titan crane"
    assert document["crane"]["senses"] == {"hoist%1:06:01::": "a machine that lifts"}
    assert document["harbour crane"] == {
        **document["crane"],
        "synonyms": ["crane", "hoist", "lifting machine"],
        "multiword": [],
    }
    assert document["stop sign"] == {"senses": {}, "synonyms": [], "multiword": []}


def test_command_writes_what_it_extracted(tiny_wordnet: Path, tmp_path: Path) -> None:
    table, output = tmp_path / "table.json", tmp_path / "out.json"
    table.write_text(json.dumps({"categories": {"crane": {"senses": ["crane%1:06:00::"]}}}))
    done = CliRunner().invoke(app, ["--senses", str(table), "--wordnet", str(tiny_wordnet), "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert json.loads(output.read_text())["categories"]["crane"]["synonyms"][0] == "Grus grus"


@pytest.mark.parametrize("table", ["[]", "{", '{"categories": []}', '{"categories": {"a": {}}}'])
def test_a_table_that_is_none(tiny_wordnet: Path, tmp_path: Path, table: str) -> None:
    (tmp_path / "table.json").write_text(table)
    arguments = ["--senses", str(tmp_path / "table.json"), "--wordnet", str(tiny_wordnet), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, DatasetError)
    assert not (tmp_path / "out").exists()


def test_no_wordnet_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="apt-get install wordnet-base"):
        WordNet(tmp_path)


@pytest.mark.skipif(not (INSTALLED / "data.noun").is_file(), reason=f"WordNet is not installed in {INSTALLED}")
def test_shipped_synonyms_are_what_wordnet_says() -> None:
    assert to_text(extract(WordNet(INSTALLED), shipped_senses())) == SHIPPED.read_text(encoding="utf-8")


def test_every_category_of_the_sets_has_reviewed_senses() -> None:
    senses, categories = shipped_senses(), _shipped()["categories"]
    sizes = {name: len(names) for name, names in senses["sets"].items()}
    assert sizes == {
        "msrc": 23, "camvid": 11, "coco_panoptic": 133, "ade20k_150": 150, "cityscapes": 19, "pascal_voc_20": 20,
        "pascal_context_59": 59,
    }  # fmt: skip
    everything = {name for names in senses["sets"].values() for name in names}
    assert everything == set(senses["categories"]) == set(categories)
    for name, entry in categories.items():
        assert set(entry["senses"]) == set(senses["categories"][name]["senses"])
        assert all(entry["senses"].values()), name
        assert len(entry["multiword"]) <= MOST_RELATED
        omitted = {word.casefold() for word in senses["categories"][name].get("omit", [])}
        assert not omitted & {word.casefold() for word in (*entry["synonyms"], *entry["multiword"])}


def test_chosen_senses_are_the_visible_ones() -> None:
    glosses = {name: " ".join(entry["senses"].values()) for name, entry in _shipped()["categories"].items()}
    assert "computer" in glosses["mouse"] or "electronic device" in glosses["mouse"]
    assert "illumination" in glosses["light"]
    assert "reading" not in glosses["plate"]
    assert "food" in glosses["plate"]
    assert "bucket" not in _shipped()["categories"]["crt screen"]["synonyms"]


def test_wordnet_names_lie_behind_the_hand_written_ones() -> None:
    bus = category_names("bus")
    assert bus.names == ("bus", "coach")  # what bundles carry: unchanged by WordNet
    assert "school bus" in bus.diverse
    assert "coach" not in bus.diverse
    assert bus.all == (*bus.names, *bus.diverse)
    assert category_names("bus|tram").all == ("bus", "tram")  # names of one's own replace all others
    assert category_names("stop sign").all == ("stop sign",)
    assert category_names("a category nobody knows").all == ("a category nobody knows",)
    assert plain_name("window-blind") == "window blind"


@pytest.mark.parametrize("category", ["", " | ", "-merged", "tree|-other"])
def test_a_category_without_a_word(category: str) -> None:
    with pytest.raises(DatasetError, match="has no word"):
        category_names(category)


def test_shared_names_are_nobodys() -> None:
    classes = [
        CategoryNames(("bicycle", "cycle"), (), ("Bike", "pushbike")),
        CategoryNames(("motorcycle",), (), ("bike", "bicycle")),
        CategoryNames(("table",), (), ("board",)),
        CategoryNames(("table",), (), ("board",)),
    ]
    assert distinct_names(classes) == [
        ("bicycle", "cycle", "pushbike"), ("motorcycle",), ("table", "board"), ("table", "board"),
    ]  # fmt: skip
