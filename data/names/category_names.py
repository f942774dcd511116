"""What a dataset calls its categories, and what a person would call them.

`names.json`, written by hand, gives for a category the names that mean the same, and `related`: words for things that
contain it or are part of it, which must not be suppressed as background by it. `synonyms.json`, extracted from WordNet
by `ovs-synonyms`, gives many more names, some of them of kinds ("school bus"): for training only.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from ...bundle.errors import DatasetError

_SUFFIXES = ("-merged", "-other", "-stuff")
_IRREGULAR = {"playingfield": "playing field", "window-blind": "window blind"}


@dataclass(frozen=True)
class CategoryNames:
    """Words for one category of a dataset."""

    names: tuple[str, ...]  # names that mean the same, the plain name first
    related: tuple[str, ...]  # words whose regions overlap this category's
    diverse: tuple[str, ...] = ()  # further names, from WordNet, for text diversification

    @property
    def all(self) -> tuple[str, ...]:
        """The set that text diversification draws from, the plain name first."""
        return (*self.names, *self.diverse)


@cache
def _read(file: str) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((files("ovs_edge.data.names") / file).read_text(encoding="utf-8"))
    return known


def plain_name(category: str) -> str:
    """`wall-other-merged` -> `wall`, `wall-brick` -> `brick wall`, `door-stuff` -> `door`."""
    name = unicodedata.normalize("NFC", category)
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    if name in _IRREGULAR:
        return _IRREGULAR[name]
    head, separator, kind = name.partition("-")
    return f"{kind} {head}" if separator else name


def category_names(category: str) -> CategoryNames:
    """Names of a dataset's category; `a|b` in a classes file gives synonyms of one's own.

    Raises `DatasetError` for a category without a word.
    """
    given = [part.strip() for part in category.split("|") if part.strip()]
    plain = [plain_name(part) for part in given]
    if not plain or not all(name.strip() for name in plain):
        raise DatasetError(f"the category {category!r} has no word; expected a name such as 'tree', or 'tree|bush'")
    entry = _read("names.json").get(plain[0], {})
    if len(plain) > 1:
        names, diverse = list(dict.fromkeys(plain)), []
    else:
        found = _read("synonyms.json")["categories"].get(plain[0], {"synonyms": [], "multiword": []})
        names = list(dict.fromkeys([*plain, *entry.get("synonyms", [])]))
        diverse = [name for name in (*found["synonyms"], *found["multiword"]) if name not in names]
    return CategoryNames(
        tuple(names), tuple(name for name in entry.get("related", []) if name not in names), tuple(diverse)
    )


def distinct_names(classes: Sequence[CategoryNames]) -> list[tuple[str, ...]]:
    """All names of each class, without those that two of the classes share.

    "bike" is a bicycle and a motorcycle: as a training name it would contradict itself. A plain name stays with its
    class; classes that share even that are one thing to a user, and keep their names.
    """
    owners: dict[str, set[str]] = {}
    for entry in classes:
        for name in entry.all:
            owners.setdefault(name.casefold(), set()).add(entry.names[0])
    return [
        (entry.names[0], *(name for name in entry.all[1:] if len(owners[name.casefold()]) == 1)) for entry in classes
    ]
