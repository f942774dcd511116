"""Seen and unseen categories: which are hidden from training, and how well both are found afterwards.

A split is a JSON file: {"unseen": ["sheep", …], "reserved": {"cow": "cattle", …}}. The pixels of an unseen category are
not labelled in training, and it is never named: neither itself nor by a synonym of another category ("bike" of a
motorcycle when bicycles are unseen). A reserved name is kept out of training too: it asks afterwards for a seen
category by a word that the model has not met.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..bundle.errors import DatasetError
from ..bundle.metrics import IGNORE, intersection_over_union
from ..data.datasets import SegmentationDataset
from ..data.names.category_names import CategoryNames, category_names


@dataclass(frozen=True)
class Split:
    """Categories and names that training must not meet."""

    unseen: tuple[str, ...]  # plain names of categories
    reserved: dict[str, str]  # plain name of a category -> a synonym kept for evaluation

    def hides(self, category: CategoryNames) -> bool:
        """Whether a category is one of the unseen, under whatever name its dataset has for it."""
        return _folded(category.names[0]) in self._unseen_names()

    def allowed(self, category: CategoryNames) -> CategoryNames:
        """A seen category without the names that training must not meet."""
        plain, *others = category.names
        reserved = {_folded(name) for name in self.reserved.values()}
        # "dairy cattle" would give "cattle" away, but a reserved "seat" has nothing to do with a toilet seat.
        within = self._unseen_names() | {_folded(self.reserved.get(plain, plain))}
        within.discard(_folded(plain))

        def kept(names: Iterable[str]) -> tuple[str, ...]:
            return tuple(
                name
                for name in names
                if _folded(name) not in reserved and not any(f" {word} " in f" {_folded(name)} " for word in within)
            )

        return CategoryNames((plain, *kept(others)), kept(category.related), kept(category.diverse))

    def _unseen_names(self) -> set[str]:
        return {_folded(name) for category in self.unseen for name in category_names(category).all}


@dataclass(frozen=True)
class SplitScore:
    """Mean IoU of the two kinds of categories, all names competing."""

    seen: float  # mean over the seen categories that occur in the truth
    unseen: float  # mean over the unseen ones that occur
    harmonic: float  # 2 · seen · unseen / (seen + unseen)
    per_class: dict[str, float]  # IoU of every category that occurs in the truth


def read_split(path: Path) -> Split:
    """Read a split file; raises `DatasetError` when it is none."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        unseen, reserved = raw["unseen"], raw.get("reserved", {})
        sound = isinstance(unseen, list) and all(isinstance(name, str) and name.strip() for name in unseen)
        sound = sound and all(isinstance(name, str) and name.strip() for pair in reserved.items() for name in pair)
        sound = sound and all(category_names(name).names for name in unseen)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DatasetError) as error:
        raise DatasetError(f"cannot read the split {path} ({error!r}); {_EXPECTED}") from error
    if not sound or not unseen:
        raise DatasetError(f"the split {path} names no unseen category, or something that is no name; {_EXPECTED}")
    return Split(tuple(unseen), dict(reserved))


def hide(dataset: SegmentationDataset, split: Split) -> SegmentationDataset:
    """`dataset` as training may see it: unseen categories unlabelled and unnamed, forbidden synonyms removed."""
    table: list[int] = []
    kept: list[CategoryNames] = []
    for category in dataset.classes:
        if split.hides(category):
            table.append(IGNORE)
        else:
            table.append(len(kept))
            kept.append(split.allowed(category))
    if not kept:
        raise DatasetError(f"the split leaves no category of {dataset.name} to train on; name fewer as unseen")
    stored = dataset.relabel or range(len(dataset.classes))
    relabel = tuple(IGNORE if index == IGNORE else table[index] for index in stored)
    return dataclasses.replace(dataset, classes=tuple(kept), relabel=relabel)


class Named(Protocol):
    """A data set of training or of benchmarks."""

    @property
    def name(self) -> str:
        """What results call it."""

    @property
    def classes(self) -> tuple[CategoryNames, ...]:
        """Its classes, in the order of their indices."""


def check_known(datasets: Iterable[Named], split: Split) -> None:
    """Raise `DatasetError` for an unseen name that no dataset has: a typing error would leak a category."""
    datasets = list(datasets)
    for name in split.unseen:
        one = Split((name,), {})
        if not any(one.hides(category) for dataset in datasets for category in dataset.classes):
            raise DatasetError(
                f"the split names {name!r} as unseen, but no dataset has it "
                f"({', '.join(dataset.name for dataset in datasets)}); correct the name, or remove it"
            )


def score(counts: npt.NDArray[np.int64], classes: tuple[CategoryNames, ...], split: Split) -> SplitScore:
    """Seen, unseen and harmonic mean IoU from confusion counts (K, K + 1) of a dataset's `classes`."""
    per_class = intersection_over_union(counts).per_class
    present = counts.sum(1) > 0
    hidden = np.array([split.hides(category) for category in classes])
    seen, unseen = (_mean(per_class[present & which]) for which in (~hidden, hidden))
    total = seen + unseen
    return SplitScore(
        seen,
        unseen,
        2 * seen * unseen / total if total else 0.0,
        {
            category.names[0]: float(iou)
            for category, iou, occurs in zip(classes, per_class, present, strict=True)
            if occurs
        },
    )


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _folded(name: str) -> str:
    """Lower-case words, without plurals' s: "Bikes" and "bike" are one name."""
    return " ".join(word.removesuffix("s") if len(word) > 3 else word for word in re.findall(r"\w+", name.casefold()))


_EXPECTED = 'expected {"unseen": ["sheep"], "reserved": {"cow": "cattle"}}'
