"""Background classes: names that compete with the user's classes and are not shown.

The network must choose a class for every pixel. With "cat" alone, everything would be a cat. So the names that the model
was trained with, except those that mean one of the user's classes, compete as a few further, last classes. Each holds
similar names: names of a class compete by maximum before the softmax, so K stays small however many names there are.
But a class's scores of several queries add up. If all names were one class, a bit of "clock" here and of "spoon" there
would together outweigh a "cup". With a class for each name nothing adds up, but every frame needs 160 full-size score
maps.

Models without queries take all classes to full size at nearly the cost of a few, and their details at stride 4 are those
of one name of a class. So there each trained class is a background class of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from ...bundle.vocabulary import ClassNames, Vocabulary, stack_names
from .centring import mean_of, unit
from .out_of_vocabulary import read_words
from .sensitivity import NEAR

LABEL = "(background)"  # parentheses keep it apart from a name someone types

_ROUNDS = 20  # of k-means, far more than a few hundred names need to settle

# Classes the background is spread over. Measured with `mini` on 82 validation photos, half of each photo's classes
# asked for: IoU of the asked ones 0.178 / 0.746 / 0.586 (COCO, MSRC, CamVid) with 1, 0.182 / 0.754 / 0.597 with 8, no
# better with 16 or 32.
GROUPS = 8
_UNUSED = 0.1  # component of unit vectors below which they do not use a direction
MAX_NAMES = 48  # of one background class
MAX_ROWS = 4096  # K * S of the tensor: all of it is compared with every query in every frame

# Words for people, so various in use that their vectors lie far apart ("person" and "man": 0.41).
_PEOPLE = frozenset(
    {
        "person", "people", "human", "man", "woman", "child", "boy", "girl", "kid", "baby", "adult", "pedestrian",
        "rider", "bicyclist", "cyclist", "motorcyclist", "face", "body", "head", "crowd", "player",
    }
)  # fmt: skip
_WEARERS = _PEOPLE - {"face", "head"}
# What people wear. Of the embedded model's names only "tie" is among it, the others are not measured. Person asked for
# alone on 200 training photos of VOC, mean IoU while ties compete and while they do not: 0.6885 and 0.6890 with the
# embedded model, 0.626 and 0.688 with that of training/recipes/default.sh. Bags are no part of it: without them, too, the
# latter gains 0.004 on COCO things and loses 0.001 on VOC. `related` words would do the same, but in training as well,
# where ties have to compete with people.
_WORN = frozenset(
    {
        "blazer", "blouse", "boot", "cap", "cardigan", "clothes", "clothing", "coat", "dress", "glove", "hat", "helmet",
        "hoodie", "jacket", "jeans", "jumper", "necktie", "pants", "pullover", "sandal", "scarf", "shirt", "shoe",
        "shorts", "skirt", "sneaker", "sock", "stocking", "suit", "sunglasses", "sweater", "sweatshirt", "tie", "tights",
        "trousers", "uniform", "vest",
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
    """The training vocabulary with its vectors: what of it competes with the classes that are asked for."""

    def __init__(
        self,
        classes: Sequence[Sequence[str]],
        vectors: npt.NDArray[np.float32],
        related: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`vectors` (N, D), unit: of `names(classes)`, in that order.

        `related`: first name of a class -> words for things that overlap it. They do not compete themselves, but the
        class does not compete when one of them is asked for: a person must not take the pixels of a face.
        """
        self._related = related or {}
        self._classes = tuple(tuple(names) for names in classes)
        self._row = {name: row for row, name in enumerate(names(classes))}
        self._vectors = vectors
        self._mean = mean_of(vectors)  # of few names there is none: those are told apart by their words alone
        if self._mean is not None:
            self._directions = unit(vectors - self._mean)
        self._group = self._grouped()

    def away_from(self, asked: Sequence[str], asked_vectors: npt.NDArray[np.float32], near: float = NEAR) -> list[str]:
        """Names that compete with the names `asked` (vectors (M, D)): first names of all classes, then second ones, …

        If one name of a training class is nearer than `near` to an asked one, none of the class competes: its names
        mean one thing.
        """
        close: npt.NDArray[np.bool_] = np.any(self._cosines(asked_vectors) > near, axis=1)
        spellings = Spellings.of(asked)
        kept = [
            entry
            for entry in self._classes
            if not any(close[self._row[name]] for name in entry)
            and not any(map(spellings.match, (*entry, *self._related.get(entry[0], ()))))
        ]
        ranked = (name for rank in zip_longest(*kept) for name in rank if name is not None)
        return list(dict.fromkeys(ranked))

    def taken_over(
        self, asked: Sequence[str], asked_vectors: npt.NDArray[np.float32], least: float
    ) -> dict[str, list[str]]:
        """Trained names at least as near as `least` to a name of `asked` (vectors (M, D)): by the nearest asked name.

        A name that means one of `asked` by its words is not among them: it is asked for already, or stands for
        something more special.
        """
        cosines, spellings = self._cosines(asked_vectors), Spellings.of(asked)
        found: dict[str, list[str]] = {}
        for name, row in self._row.items():
            nearest = int(cosines[row].argmax()) if cosines.shape[1] else 0
            if cosines.shape[1] and cosines[row, nearest] >= least and not spellings.match(name):
                found.setdefault(asked[nearest], []).append(name)
        return found

    def worn(self, asked: Iterable[str]) -> set[str]:
        """All names of the classes that people wear, where one of `asked` is a person: people keep their clothes."""
        if not any(words[-1] in _WEARERS for words in map(_words, asked) if words):
            return set()
        kinds = Spellings.of(_WORN).whole
        return {name for entry in self._classes if _words(entry[0]) in kinds for name in entry}

    def classes_of(self, chosen: Iterable[str]) -> set[str]:
        """All names of the classes that hold one of `chosen`."""
        wanted = set(chosen)
        return {name for entry in self._classes if wanted.intersection(entry) for name in entry}

    def nearest(self, vector: npt.NDArray[np.float32]) -> tuple[str, float] | None:
        """The trained name nearest to a name's vector (D,), and their cosine; None where there are too few names."""
        if self._mean is None:
            return None
        cosines = self._cosines(vector[None])[:, 0]
        row = int(cosines.argmax())
        return next(name for name, place in self._row.items() if place == row), float(cosines[row])

    def weighted(self, vectors: npt.NDArray[np.float32], weight: float) -> npt.NDArray[np.float32]:
        """`vectors` (S, D), turned so that their cosines with all that resembles a trained name become `weight` times.

        Scaling a vector does nothing, since the graph makes it unit; so it is mixed with a direction in which the
        trained names have no component, and the network's queries, trained to resemble names, next to none.
        """
        if weight == 1.0 or self._unused is None:
            return vectors
        mixed: npt.NDArray[np.float32] = weight * unit(vectors) + np.float32(np.sqrt(1 - weight**2)) * self._unused
        return mixed.astype(np.float32)

    @cached_property
    def _unused(self) -> npt.NDArray[np.float32] | None:
        """A direction (D,) in which the trained names have next to no component; None where they use all of them."""
        _, directions = np.linalg.eigh(self._vectors.T.astype(np.float64) @ self._vectors)
        least = np.asarray(directions[:, 0], np.float32)
        return least if float(np.abs(self._vectors @ least).max()) < _UNUSED else None

    def groups(self, chosen: Iterable[str], most: int = MAX_NAMES) -> list[list[str]]:
        """`chosen` as classes of similar names, at most `GROUPS` of at most `most` names; later names are left out."""
        found: dict[int, list[str]] = {}
        for name in chosen:
            found.setdefault(self._group[name], []).append(name)
        return [found[group][:most] for group in sorted(found)]

    def apart(self, chosen: Iterable[str], most: int = MAX_NAMES) -> list[list[str]]:
        """`chosen` as the trained classes they are names of, at most `most` names of each; later names are left out."""
        left = set(chosen)
        found = []
        for entry in self._classes:
            mine = [name for name in entry if name in left]
            left.difference_update(mine)
            if mine:
                found.append(mine[:most])
        return found

    def vectors(self, chosen: Iterable[str]) -> npt.NDArray[np.float32]:
        """Vectors (S, D) of names from this vocabulary."""
        return self._vectors[[self._row[name] for name in chosen]]

    def read(self, words: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """`read_words` through this vocabulary."""
        return read_words(words, self._vectors)

    def _grouped(self) -> dict[str, int]:
        """Group of each name: spherical k-means over the classes' mean directions, started from the farthest ones."""
        if self._mean is None or len(self._classes) <= GROUPS:
            return {name: index % GROUPS for index, entry in enumerate(self._classes) for name in entry}
        points = unit(
            np.stack([self._directions[[self._row[name] for name in entry]].mean(axis=0) for entry in self._classes])
        )
        chosen = [0]
        while len(chosen) < GROUPS:
            chosen.append(int((points @ points[chosen].T).max(axis=1).argmin()))
        centres = points[chosen]
        for _ in range(_ROUNDS):
            nearest = (points @ centres.T).argmax(axis=1)
            sums = [points[nearest == group].sum(axis=0) for group in range(GROUPS)]
            centres = unit(np.stack(sums))
        nearest = (points @ centres.T).argmax(axis=1)
        return {name: int(group) for entry, group in zip(self._classes, nearest, strict=True) for name in entry}

    def _cosines(self, asked: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Cosines (N, M) of all trained names with `asked` (M, D), means taken off; zeros where there is no mean."""
        if self._mean is None or not len(asked):
            return np.zeros((len(self._vectors), len(asked)), np.float32)
        # Not `@`: for so little work BLAS spends ten times longer waking threads that the network keeps busy.
        return np.asarray(np.einsum("nd,md->nm", self._directions, unit(asked - self._mean)), np.float32)


def names(classes: Iterable[Iterable[str]]) -> list[str]:
    """Every distinct name, in order of first appearance."""
    return list(dict.fromkeys(name for entry in classes for name in entry))


def room(classes: int, names_per_class: int) -> int:
    """How many names a background class may have beside K `classes` of at most `names_per_class` names each."""
    return min(MAX_NAMES, max(names_per_class, MAX_ROWS // (classes + GROUPS)))


def with_background(
    asked: Vocabulary, background: Sequence[tuple[Sequence[str], npt.NDArray[np.float32]]]
) -> Vocabulary:
    """`asked` with further, last classes: the names of each and their vectors (S, D)."""
    further = [(tuple(names), vectors) for names, vectors in background if names]
    if not further:
        return asked
    rows = [*asked.vectors, *(vectors for _, vectors in further)]
    classes = (*asked.classes, *(ClassNames(LABEL, names) for names, _ in further))
    return Vocabulary(classes, stack_names(rows, asked.vectors.shape[2]))
