"""What competes in silence, so that whatever matches no asked class is not painted.

The argmax must choose something for every pixel. Asked for "cat" alone, all would be cat. So the names the model was
trained with, less those that mean an asked class, compete as ONE extra, last class: names of a class compete by
maximum before the softmax, hence one class of 160 names costs no more softmax entries than a class of one, K stays
small, and the asked classes are diluted by a single rival: the best one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from ovs_edge.bundle.vocabulary import ClassNames, Vocabulary, stack_names

LABEL = "(background)"  # parentheses keep it apart from a name someone types

# Cosine of two names' vectors, the training vocabulary's mean taken off, from which they count as one thing. Without
# the mean, all prompts look alike (0.6 for "car" and "bus") and the scale differs by encoder. On MiniLM sentence
# vectors, 21 pairs to keep apart (car/truck, cat/dog, rocket/aeroplane) reach 0.46; of 24 near-synonyms
# (cup/mug, road/street, cat/kitten), 19 exceed 0.48. The price of an error is small on either side: a rival
# dropped may let its pixels be painted, a synonym kept may take pixels away.
NEAR = 0.48
_FEWEST_FOR_MEAN = 8  # names

MAX_NAMES = 160  # of the background class
MAX_ROWS = 4096  # K * S of the tensor: all of it is compared with every query in every frame

# Words for people, so various in use that their vectors lie far apart ("person" and "man": 0.41).
_PEOPLE = frozenset(
    {
        "person", "people", "human", "man", "woman", "child", "boy", "girl", "kid", "baby", "adult", "pedestrian",
        "rider", "bicyclist", "cyclist", "motorcyclist", "face", "body", "head", "crowd", "player",
    }
)  # fmt: skip
_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "feet": "foot",
    "leaves": "leaf", "knives": "knife", "shelves": "shelf", "geese": "goose", "teeth": "tooth",
}  # fmt: skip


@lru_cache(maxsize=16384)
def _words(name: str) -> tuple[str, ...]:
    """Lower-case words in the singular: "Traffic-Lights" -> ("traffic", "light")."""
    return tuple(_singular(word) for word in re.findall(r"\w+", name.casefold().replace("_", " ")))


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if re.search(r"(s|x|z|ch|sh)es$", word):
        return word[:-2]
    return word.removesuffix("s")


@dataclass(frozen=True)
class Spellings:
    """The words of asked names, kept so that one look-up tells whether another name means one of them.

    Names mean the same by their words when they differ in number and case only, or when one is the other made more
    precise. In English the last word says what a thing is: a traffic light is a light, but not traffic.
    """

    whole: frozenset[tuple[str, ...]]  # words of each name
    ends: frozenset[tuple[str, ...]]  # last one, two, ... words of each name
    signs: frozenset[str]  # names without a word, such as emoji
    people: bool  # one of them is a person

    @classmethod
    def of(cls, asked: Iterable[str]) -> Spellings:
        """Index `asked`."""
        asked = list(asked)
        whole = frozenset(words for words in map(_words, asked) if words)
        ends = frozenset(words[start:] for words in whole for start in range(len(words)))
        signs = frozenset(name.casefold() for name in asked if not _words(name))
        return cls(whole, ends, signs, any(words[-1] in _PEOPLE for words in whole))

    def match(self, name: str) -> bool:
        """Whether `name` means one of the names."""
        words = _words(name)
        if not words:
            return name.casefold() in self.signs
        if words in self.ends or (self.people and words[-1] in _PEOPLE):
            return True
        return any(words[start:] in self.whole for start in range(1, len(words)))


class Background:
    """The training vocabulary with its vectors, ready to step back from whatever is asked for."""

    def __init__(
        self,
        classes: Sequence[Sequence[str]],
        vectors: npt.NDArray[np.float32],
        related: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`vectors` (N, D), unit: of `names(classes)`, in that order.

        `related`: first name of a class -> words for things that overlap it. They do not compete themselves, but the
        class steps back when one of them is asked for: a face must not take its pixels from a person.
        """
        self._related = related or {}
        self._classes = tuple(tuple(names) for names in classes)
        self._row = {name: row for row, name in enumerate(names(classes))}
        self._vectors = vectors
        # The mean of few names is no estimate of what all prompts share: those are told apart by their words alone.
        self._mean = vectors.mean(axis=0) if len(vectors) >= _FEWEST_FOR_MEAN else None
        if self._mean is not None:
            self._directions = _directions(vectors - self._mean)

    def away_from(
        self, asked: Sequence[str], asked_vectors: npt.NDArray[np.float32], most: int = MAX_NAMES
    ) -> list[str]:
        """Names that compete with the names `asked` (vectors (M, D)), at most `most`.

        If one name of a training class is near an asked one, the whole class steps back: its names mean one thing.
        Where the limit bites, every class keeps its first name before any keeps its second.
        """
        near = self._near_by_vector(asked_vectors)
        spellings = Spellings.of(asked)
        kept = [
            entry
            for entry in self._classes
            if not any(near[self._row[name]] for name in entry)
            and not any(map(spellings.match, (*entry, *self._related.get(entry[0], ()))))
        ]
        ranked = (name for rank in zip_longest(*kept) for name in rank if name is not None)
        return list(dict.fromkeys(ranked))[:most]

    def vectors(self, chosen: Iterable[str]) -> npt.NDArray[np.float32]:
        """Vectors (S, D) of names from this vocabulary."""
        return self._vectors[[self._row[name] for name in chosen]]

    def _near_by_vector(self, asked: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        if self._mean is None or not len(asked):
            return np.zeros(len(self._vectors), np.bool_)
        # Not `@`: for so little work BLAS spends ten times longer waking threads that the network keeps busy.
        cosines = np.einsum("nd,md->nm", self._directions, _directions(asked - self._mean))
        nearest: npt.NDArray[np.bool_] = np.any(cosines > NEAR, axis=1)
        return nearest


def _directions(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: npt.NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
    return result


def names(classes: Iterable[Iterable[str]]) -> list[str]:
    """Every distinct name, in order of first appearance."""
    return list(dict.fromkeys(name for entry in classes for name in entry))


def room(classes: int, names_per_class: int) -> int:
    """How many names the background may have beside K `classes` of at most `names_per_class` names each."""
    return min(MAX_NAMES, max(names_per_class, MAX_ROWS // (classes + 1)))


def with_background(asked: Vocabulary, background: Sequence[str], vectors: npt.NDArray[np.float32]) -> Vocabulary:
    """`asked` with one more, last class of the names `background`, vectors (S, D); unchanged if there are none."""
    if not background:
        return asked
    rows = [*asked.vectors, vectors]
    return Vocabulary((*asked.classes, ClassNames(LABEL, tuple(background))), stack_names(rows, asked.vectors.shape[2]))
