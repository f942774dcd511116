"""`ovs-synonyms`: synonyms of category names out of WordNet, as a JSON file to review.

`senses.json` says, checked by hand, which noun senses a category has (a mouse is an animal or a device) and which of
their words to leave out. From WordNet come all lemmas of these senses, and related multiword names: those of their
direct hypernyms and hyponyms whose last word is the last word of a lemma ("mountain bike" beside "bike"), the first
`MOST_RELATED` in WordNet's order, without names that hold a capital letter (places, people, trade marks).
"""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

from ...bundle.errors import DatasetError, SinkError
from ...bundle.files import refuse_other_file, replacing
from ...runtime.command_line import run_command
from .wordnet import Synset, WordNet

MOST_RELATED = 8  # of a category; some have a hundred ("tree"), few of which anyone would say
SOURCE = "WordNet 3.0, https://wordnet.princeton.edu"
NOTICE = "WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. Its licence: LICENSE-WORDNET.txt."

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def extract(wordnet: WordNet, senses: dict[str, Any]) -> dict[str, Any]:
    """The document of `synonyms.json` for a table of senses; raises `DatasetError` for a table that makes no sense."""
    try:
        categories = {name: _category(wordnet, name, entry) for name, entry in senses["categories"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"the table of senses is not understood ({error!r}); expected "
            '{"categories": {NAME: {"senses": [KEY, …]}}}'
        ) from error
    return {"notice": NOTICE, "source": SOURCE, "categories": categories}


def _category(wordnet: WordNet, name: str, entry: dict[str, Any]) -> dict[str, Any]:
    synsets = {key: wordnet.sense(key) for key in entry["senses"]}
    omitted = {_folded(word) for word in (name, *entry.get("omit", ()))}
    lemmas = _distinct([lemma for synset in synsets.values() for lemma in synset.lemmas], omitted)
    related = _distinct(
        [other for synset in synsets.values() for other in _related(wordnet, synset)],
        omitted | {_folded(lemma) for lemma in lemmas},
    )
    return {
        "senses": {key: synset.gloss for key, synset in synsets.items()},
        "synonyms": lemmas,
        "multiword": related[:MOST_RELATED] if entry.get("kinds", True) else [],
    }


def _related(wordnet: WordNet, synset: Synset) -> list[str]:
    heads = {_folded(lemma).split()[-1] for lemma in synset.lemmas}
    kin = [wordnet.synset(offset) for offset in (*synset.hypernyms, *synset.hyponyms)]
    return [
        lemma
        for other in kin
        for lemma in other.lemmas
        if " " in lemma and lemma.split()[-1] in heads and lemma == lemma.casefold()
    ]


def _distinct(names: list[str], without: set[str]) -> list[str]:
    """`names` in their order, each spelling once: "ash bin" and "ash-bin" are one."""
    seen = {name.replace("-", " ") for name in without}
    kept = []
    for name in names:
        spelling = _folded(name).replace("-", " ")
        if spelling not in seen:
            seen.add(spelling)
            kept.append(name)
    return kept


def _folded(name: str) -> str:
    return name.casefold().replace("_", " ")


def to_text(document: dict[str, Any]) -> str:
    """JSON with one category a line, for eyes and for diffs."""
    lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in document["categories"].items()]
    head = json.dumps({key: value for key, value in document.items() if key != "categories"}, indent=1)
    return head.removesuffix("\n}") + ',\n "categories": {\n' + ",\n".join(lines) + "\n }\n}\n"


def shipped_senses() -> dict[str, Any]:
    """The table that ships: COCO panoptic, ADE20K, Cityscapes, Pascal VOC and Context, MSRC and CamVid."""
    senses: dict[str, Any] = json.loads((files("ovs_edge.data.names") / "senses.json").read_text(encoding="utf-8"))
    return senses


@app.command()
def synonyms(
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write.")],
    senses: Annotated[
        Path | None,
        typer.Option(help="Table of senses: {category: {senses: [key], omit: []}}. Default: the shipped one."),
    ] = None,
    wordnet: Annotated[Path, typer.Option(help="Folder with WordNet's data.noun and index.noun.")] = Path(
        "/usr/share/wordnet"
    ),
) -> None:
    """Extract the synonyms of category names from WordNet."""
    refuse_other_file(output, b'"notice": ')
    document = extract(WordNet(wordnet), shipped_senses() if senses is None else _read(senses))
    try:
        with replacing(output) as work:
            work.write_text(to_text(document), encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {output} ({error}); free some space or choose another place") from error
    words = sum(len(entry["synonyms"]) + len(entry["multiword"]) for entry in document["categories"].values())
    print(f"wrote {output}: {len(document['categories'])} categories, {words} names")


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path} ({error}); expected a JSON table of senses") from error
    if not isinstance(raw, dict):
        raise DatasetError(f"{path} holds a {type(raw).__name__}, expected a JSON table of senses")
    return raw


def main() -> None:
    """Console entry point."""
    run_command(app)


if __name__ == "__main__":
    main()
