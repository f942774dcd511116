"""Words in, vectors out: the classes a user asks for, and the tensor the graph wants for them.

"person,bike|bicycle" --parse_classes--> (ClassNames, ...) --encoder--> Vocabulary, vectors (K, S, D)
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .class_files import read_class_entries
from .errors import UsageError

MAX_NAME = 300  # characters; more than any encoder's context holds
MAX_SYNONYMS = 64  # names of one class
_MOST_STUFF = 10_000  # names of --stuff
# Numbers that are no part of a name, as the whole ones in "apollo:13" may be.
_NUMBER = re.compile(r"[-+][0-9.]+|[0-9]*\.[0-9]+|[0-9]+\.|[-+]?[0-9.]+[eE][-+]?[0-9]+|[0-9.]+ ?%|[-+]?(?:nan|inf)")
_THRESHOLD = re.compile(r"(.*[^\s:].*):\s*(0|1|0?\.[0-9]{1,6}|[01]\.0{0,6}|0\.[0-9]{1,6})\s*", re.DOTALL)


@dataclass(frozen=True)
class ClassNames:
    """One class: the label it is shown under, and every name that means it."""

    label: str
    names: tuple[str, ...]  # the first is the label
    threshold: float | None = None  # its own confidence threshold, 0..1; None: the segmenter's

    def __str__(self) -> str:
        """The entry as `parse_class_entries` reads it."""
        return "|".join(self.names) + ("" if self.threshold is None else f":{self.threshold:g}")


@dataclass(frozen=True)
class Vocabulary:
    """Classes with their text vectors."""

    classes: tuple[ClassNames, ...]
    vectors: npt.NDArray[np.float32]  # (K, S, D); a zero row is no name

    def __post_init__(self) -> None:
        if self.vectors.ndim != 3 or self.vectors.dtype != np.float32 or len(self.vectors) != len(self.classes):
            raise UsageError(
                f"text vectors are {self.vectors.dtype} {list(self.vectors.shape)}, "
                f"expected float32 (K, S, D) with K = {len(self.classes)}"
            )

    @property
    def labels(self) -> tuple[str, ...]:
        """Label of each class, in order."""
        return tuple(entry.label for entry in self.classes)


def parse_classes(text: str, limit: int) -> tuple[ClassNames, ...]:
    """Parse `"person,bike|bicycle|cycle"`, or `"@file"` with one class per line (`#` starts a comment line).

    White space is collapsed, names are put into Unicode's form NFC, and control characters are refused. Classes that
    differ in case only are one class, and so are repeated names.
    Raises `UsageError` for an empty list, more than `limit` classes, or a name that is too long.
    """
    if text.startswith("@"):
        return parse_class_entries(read_class_entries(Path(text[1:])), limit)
    entries = text.split(",")
    if files := [entry.strip() for entry in entries if entry.strip().startswith("@")]:
        raise UsageError(
            f"the list of classes holds the file {files[0][:80]!r} among names; give the file alone, or write its names here"
        )
    return parse_class_entries(entries, limit)


def parse_stuff(text: str | None) -> tuple[str, ...]:
    """All names of `--stuff`, which is read as a class list; none without it. Raises `UsageError`."""
    classes = () if text is None else parse_classes(text, _MOST_STUFF)
    return tuple(name for entry in classes for name in entry.names)


def parse_class_entries(entries: Iterable[str], limit: int) -> tuple[ClassNames, ...]:
    """One class for each entry, `"bike|bicycle"` or `"cup:0.2"`; a name may hold commas. Else as `parse_classes`."""
    classes: list[ClassNames] = []
    owner: dict[str, str] = {}
    for entry in entries:
        names: list[str] = []
        words, threshold = _split_threshold(entry)
        for part in words.split("|"):
            name = unicodedata.normalize("NFC", " ".join(part.split()))
            if not name:
                continue
            if len(name) > MAX_NAME:
                raise UsageError(
                    f"the class name {name[:20]!r}… has {len(name)} characters, at most {MAX_NAME} are read; shorten it"
                )
            if any("\ud800" <= letter <= "\udfff" for letter in name):
                raise UsageError(f"the class name {name[:40]!r} is not UTF-8 text; write it in UTF-8")
            if not name.isprintable():
                raise UsageError(f"the class name {name[:40]!r} holds control characters; remove them")
            key = name.casefold()
            if key in owner:
                continue
            names.append(name)
            owner[key] = names[0]
        if len(names) > MAX_SYNONYMS:
            raise UsageError(f"the class {names[0]!r} has {len(names)} names, at most {MAX_SYNONYMS}; shorten the list")
        if names:
            classes.append(ClassNames(names[0], tuple(names), threshold))
    if not classes:
        raise UsageError('the list of classes is empty; give names such as --classes "person,bike|bicycle"')
    if len(classes) > limit:
        raise UsageError(
            f"{len(classes)} classes were asked for, this bundle takes at most {limit}; "
            "shorten the list, or export again with a larger --max-classes"
        )
    return tuple(classes)


def _split_threshold(entry: str) -> tuple[str, float | None]:
    """`"cup:0.2"` is `"cup"` and 0.2; "16:9" is a name. Raises `UsageError` for what can only be meant as a threshold."""
    found = _THRESHOLD.fullmatch(entry)
    if found is not None:
        return found[1], float(found[2])
    head, colon, tail = entry.rpartition(":")
    if colon and not head.strip():
        raise UsageError(f"the class {entry.strip()[:40]!r} has no name before the colon; expected one such as cup:0.2")
    if colon and (not tail.strip() or (_NUMBER.fullmatch(tail.strip()) and not head.strip()[-1:].isdigit())):
        raise UsageError(
            f"the class {entry.strip()[:40]!r} ends in {tail.strip()[:20]!r}, expected a threshold from 0 to 1: cup:0.2"
        )
    return entry, None


def stack_names(vectors: list[npt.NDArray[np.float32]], dim: int) -> npt.NDArray[np.float32]:
    """Stack per-class arrays (S_k, D) into (K, S, D), padded with zero rows."""
    names = max(len(rows) for rows in vectors)
    stacked = np.zeros((len(vectors), names, dim), np.float32)
    for index, rows in enumerate(vectors):
        stacked[index, : len(rows)] = rows
    return stacked
