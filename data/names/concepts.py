"""One entry for a thing that several datasets name differently: a sofa is a couch, an aeroplane an airplane.

`concepts.json`, written by hand, lists for a name the other names under which datasets have the same category.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from .category_names import CategoryNames


@cache
def _canonical() -> dict[str, str]:
    table = json.loads((files("ovs_edge.data.names") / "concepts.json").read_text(encoding="utf-8"))
    return {other.casefold(): name for name, others in table.items() for other in (name, *others)}


def concept(name: str) -> str:
    """The one name of a category's plain name: "sofa" -> "couch"; a name that the table lacks is its own."""
    return _canonical().get(name.casefold(), name.casefold())


def reconcile(datasets: Sequence[tuple[CategoryNames, ...]]) -> list[tuple[CategoryNames, ...]]:
    """The classes of several datasets, in their order, where those of one concept have the same names.

    The plain name is the concept's where a dataset knows it, else the first one met. A name of two concepts says
    nothing for sure ("plant": a potted plant, or any vegetation); it leaves the names of both, unless it is the plain
    name of one, and becomes a related word.
    """
    groups: dict[str, list[CategoryNames]] = {}
    for classes in datasets:
        for category in classes:
            groups.setdefault(concept(category.names[0]), []).append(category)
    names = {key: _unique(name for entry in group for name in entry.names) for key, group in groups.items()}
    plain = {key: key if key in words else words[0] for key, words in names.items()}
    diverse = {key: _unique(name for entry in group for name in entry.diverse) for key, group in groups.items()}
    claims, drawn = _owners(names), _owners({key: [*names[key], *diverse[key]] for key in groups})
    merged = {}
    for key, group in groups.items():
        others = [name for name in names[key] if name != plain[key]]
        own = [plain[key], *(name for name in others if len(claims[name.casefold()]) == 1)]
        related = _unique(
            [*(name for entry in group for name in entry.related), *(name for name in others if name not in own)]
        )
        merged[key] = CategoryNames(
            tuple(own),
            tuple(name for name in related if name not in own),
            tuple(name for name in diverse[key] if len(drawn[name.casefold()]) == 1 and name not in own),
        )
    return [tuple(merged[concept(category.names[0])] for category in classes) for classes in datasets]


def _owners(names: dict[str, list[str]]) -> dict[str, set[str]]:
    """Name -> the concepts that claim it."""
    owners: dict[str, set[str]] = {}
    for key, words in names.items():
        for name in words:
            owners.setdefault(name.casefold(), set()).add(key)
    return owners


def _unique(names: Iterable[str]) -> list[str]:
    """`names` in their order, each once whatever its case."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(name.casefold(), name)
    return list(found.values())
