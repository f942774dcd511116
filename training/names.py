"""What a dataset calls its categories, and what a person would call them.

`names.json` gives, for a category, the names that mean the same (drawn from in training), and `related`: words for
things that contain it or are part of it, which must not be suppressed as background by it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_SUFFIXES = ("-merged", "-other", "-stuff")


@dataclass(frozen=True)
class CategoryNames:
    """Words for one category of a dataset."""

    names: tuple[str, ...]  # synonyms, the plain name first
    related: tuple[str, ...]  # words whose regions overlap this category's


@cache
def _known() -> dict[str, dict[str, list[str]]]:
    known: dict[str, dict[str, list[str]]] = json.loads(
        (files("ovs_edge.training") / "names.json").read_text(encoding="utf-8")
    )
    return known


def plain_name(category: str) -> str:
    """`wall-other-merged` -> `wall`, `wall-brick` -> `brick wall`, `door-stuff` -> `door`."""
    name = category
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    if name == "playingfield":
        return "playing field"
    head, separator, kind = name.partition("-")
    return f"{kind} {head}" if separator else name


def category_names(category: str) -> CategoryNames:
    """Names of a dataset's category; `a|b` in a classes file gives synonyms of one's own."""
    given = [part.strip() for part in category.split("|") if part.strip()]
    plain = [plain_name(part) for part in given]
    entry = _known().get(plain[0], {})
    names = list(dict.fromkeys([*plain, *(entry.get("synonyms", []) if len(plain) == 1 else [])]))
    return CategoryNames(tuple(names), tuple(name for name in entry.get("related", []) if name not in names))
