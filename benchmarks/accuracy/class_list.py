"""The classes of a data set as a segmenter is asked for them, and truth and prediction in the same class indices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ...data.labelled import VOID, CompositeNames, TrueSegment, Truth
from ...data.names.category_names import CategoryNames
from ...runtime.segmenter import Segmenter


def entries(classes: Sequence[CategoryNames], *, synonyms: bool = False) -> list[str]:
    """Entries of the class list: "plain" or, of a composite class, "handrail|fence"; with `synonyms` all names.

    A synonym that two classes share is left out; the defining name of a class is kept even if others have it as well.
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
    """The defining names of a class: its plain name, or those of all parts of a composite class."""
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
    """Without the separators of class lists."""
    return " ".join(name.replace(",", " ").replace("|", " ").split())


class ClassQuery:
    """The classes of a data set, set as the active classes of a segmenter.

    Categories that share a plain name ("table" in COCO) are one class here.
    """

    def __init__(self, segmenter: Segmenter, classes: Sequence[CategoryNames], *, synonyms: bool = False) -> None:
        """Set the segmenter's classes; raises `UsageError` for more classes than its bundle supports."""
        asked = segmenter.set_classes(entries(classes, synonyms=synonyms))
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
        """Class index of a data set's label."""
        return int(self._table[label])

    def truth(self, truth: Truth) -> npt.NDArray[np.int32]:
        """The truth (H, W) in these class indices, VOID where it is not counted."""
        labels: npt.NDArray[np.int32] = np.where(truth.labels >= 0, self._table[truth.labels], np.int32(VOID))
        return labels

    def segments(self, truth: Truth) -> dict[int, TrueSegment]:
        """The segments of the truth in these class indices."""
        return {key: TrueSegment(self.index(part.label), part.crowd) for key, part in truth.segments.items()}

    def of_labels(self, which: Sequence[bool]) -> npt.NDArray[np.bool_]:
        """A flag of the data set's classes for the classes asked for (K,); the first category of a name decides."""
        known = np.zeros(len(self), np.bool_)
        for index, value in reversed(list(zip(self._table, which, strict=True))):
            known[index] = value
        return known


def stuff_words(classes: Sequence[CategoryNames], stuff: Sequence[bool] | None) -> tuple[str, ...] | None:
    """All names of the classes without instances; None for a data set without segments."""
    if stuff is None:
        return None
    return tuple(name for entry, flag in zip(classes, stuff, strict=True) if flag for name in entry.names)
