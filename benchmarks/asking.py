"""Asking a segmenter for a data set's classes, and truth and prediction in the same numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ovs_edge.benchmarks.labelled import VOID, Truth
from ovs_edge.benchmarks.panoptic_quality import TrueSegment
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.training.names import CategoryNames


def entries(classes: Sequence[CategoryNames], synonyms: bool) -> list[str]:
    """What to ask for: each class by its plain name, or as "plain|synonym|…" without names that two classes share."""
    owners: dict[str, set[str]] = {}
    for entry in classes:
        for name in entry.names:
            owners.setdefault(_plain(name).casefold(), set()).add(entry.names[0])
    asked = []
    for entry in classes:
        more = [_plain(name) for name in entry.names[1:] if synonyms and len(owners[_plain(name).casefold()]) == 1]
        asked.append("|".join([_plain(entry.names[0]), *more]))
    return asked


def _plain(name: str) -> str:
    """Without the signs that divide a list of classes."""
    return " ".join(name.replace(",", " ").replace("|", " ").split())


class Asked:
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
        self.labels = asked.labels
        self._table = np.array([number[_plain(entry.names[0]).casefold()] for entry in classes], np.int32)

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
