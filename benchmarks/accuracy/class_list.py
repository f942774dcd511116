"""Asking a segmenter for a data set's classes, and truth and prediction in the same numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ...data.labelled import VOID, CompositeNames, TrueSegment, Truth
from ...data.names.category_names import CategoryNames
from ...runtime.segmenter import Segmenter


def entries(classes: Sequence[CategoryNames], synonyms: bool) -> list[str]:
    """What to ask for: each class by what defines it, "plain" or "handrail|fence", and with `synonyms` by all its names.

    A name that two classes share is left out; a name that defines a class stays where others have it as a synonym.
    """
    definitions, names = _owners(map(_defining, classes)), _owners(entry.names for entry in classes)
    asked = []
    for entry in classes:
        first, *others = _defining(entry)
        parts = [name for name in others if len(definitions[_key(name)]) == 1]
        if synonyms:
            parts += [name for name in entry.names[1 + len(others) :] if len(names[_key(name)]) == 1]
        asked.append("|".join(map(_plain, (first, *parts))))
    return asked


def _defining(entry: CategoryNames) -> tuple[str, ...]:
    """Names without which it would be another class: the plain one, or those of all its parts."""
    return entry.names[: entry.defining if isinstance(entry, CompositeNames) else 1]


def _owners(classes: Iterable[Sequence[str]]) -> dict[str, set[str]]:
    """Each name -> the first names of the classes that have it."""
    owners: dict[str, set[str]] = {}
    for names in classes:
        for name in names:
            owners.setdefault(_key(name), set()).add(names[0])
    return owners


def _key(name: str) -> str:
    return _plain(name).casefold()


def _plain(name: str) -> str:
    """Without the signs that divide a list of classes."""
    return " ".join(name.replace(",", " ").replace("|", " ").split())


class ClassQuery:
    """A data set's classes as a segmenter was asked for them.

    Two categories may share a plain name ("table" in COCO): they are one class to a user, and one here.
    """

    def __init__(self, segmenter: Segmenter, classes: Sequence[CategoryNames], synonyms: bool) -> None:
        """Sets the segmenter's classes; raises `UsageError` for more than its bundle takes."""
        asked = segmenter.set_classes(entries(classes, synonyms))
        number = {
            name.casefold(): index
            for index, entry in enumerate(asked.vocabulary.classes[: asked.shown])
            for name in entry.names
        }
        self._table = np.array([number[_key(entry.names[0])] for entry in classes], np.int32)
        labels = list(asked.labels)
        for index, entry in zip(self._table, classes, strict=True):
            if isinstance(entry, CompositeNames):
                labels[index] = entry.label
        self.labels = tuple(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def index(self, label: int) -> int:
        """Number of a data set's class."""
        return int(self._table[label])

    def truth(self, truth: Truth) -> npt.NDArray[np.int32]:
        """The truth (H, W) in these numbers, VOID where it does not count."""
        labels: npt.NDArray[np.int32] = np.where(truth.labels >= 0, self._table[truth.labels], np.int32(VOID))
        return labels

    def segments(self, truth: Truth) -> dict[int, TrueSegment]:
        """The truth's segments in these numbers."""
        return {key: TrueSegment(self.index(part.label), part.crowd) for key, part in truth.segments.items()}

    def of_labels(self, which: Sequence[bool]) -> npt.NDArray[np.bool_]:
        """Something known of the data set's classes (K,), for those asked for; the first of a name counts."""
        known = np.zeros(len(self), np.bool_)
        for index, value in reversed(list(zip(self._table, which, strict=True))):
            known[index] = value
        return known


def stuff_words(classes: Sequence[CategoryNames], stuff: Sequence[bool] | None) -> tuple[str, ...] | None:
    """All names of the classes without instances; None for a data set without segments."""
    if stuff is None:
        return None
    return tuple(name for entry, flag in zip(classes, stuff, strict=True) if flag for name in entry.names)
