"""From class names to what the network is given: the user's classes, then the background classes, all as text vectors.

    "person,bike|bicycle" ──parse──► names ──encode──► vectors ──read──► (K, S, D), the classes in use

`read`: out-of-vocabulary names are moved towards the nearest trained name (out_of_vocabulary.py). Background classes
are made of the names the model was trained with, except those that mean one of the user's classes (background.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ...bundle.manifest import Manifest
from ...bundle.vocabulary import ClassNames, Vocabulary, parse_class_entries, parse_classes, stack_names
from .background import GROUPS, Background, names, room, with_background
from .reading import Reading, Tokenizing, suggestion
from .sensitivity import DENSE_RULES, PUBLISHED_RULES, RULES, Sensitivity

Progress = Callable[[int, int], None]  # told how many of how many prompts are encoded
BackgroundClasses = list[tuple[Sequence[str], npt.NDArray[np.float32]]]  # names of each class, their vectors (S, D)

AUTO, NONE = "auto", "none"  # values of `background` that are not names


class Encoder(Protocol):
    """Turns names into unit vectors (N, D); `TextEncoder`, or a table in tests."""

    def encode(self, names: Sequence[str], progress: Progress | None = None) -> npt.NDArray[np.float32]:
        """Unit vectors (N, D) of `names`."""
        ...

    def preload(self) -> None:
        """Load what `encode` needs."""
        ...


class ClassVectors:
    """Makes the text vectors of a list of classes. Keeps the vectors of the trained names once they are needed."""

    def __init__(
        self,
        manifest: Manifest,
        encoder: Encoder,
        background: str = AUTO,
        sensitivity: Sensitivity = Sensitivity.NORMAL,
        *,
        exact_words: bool = False,
    ) -> None:
        """`background` is "auto" (the trained names), "none", or names such as "wall,floor".

        `exact_words` takes names as the encoder gives them: none is moved towards a trained name or takes one over.
        """
        self._manifest = manifest
        self._encoder = encoder
        self._background = background
        # Measured on sentence vectors alone; CLIP's were trained with pictures, and published models expect them as
        # they are.
        sentences = manifest.text.encoder == "minilm"
        self._reads = sentences and not exact_words
        queries = manifest.graph.decoder_layers > 0
        self._rules = (RULES if queries else DENSE_RULES) if sentences else PUBLISHED_RULES
        self.sensitivity = sensitivity
        self._trained: Background | None = None

    def parse(self, classes: str | Iterable[str]) -> tuple[ClassNames, ...]:
        """The classes of a text as `parse_classes` reads it, or of a list whose entries are literal names.

        Raises `UsageError`.
        """
        limit = max(1, self._manifest.graph.max_classes - self._reserved())
        return parse_classes(classes, limit) if isinstance(classes, str) else parse_class_entries(classes, limit)

    def vocabulary(self, parsed: tuple[ClassNames, ...], progress: Progress | None = None) -> Vocabulary:
        """`parsed` and the background classes behind them, with their vectors (K, S, D)."""
        flat = names(entry.names for entry in parsed)
        given = self._given_background(flat)
        words = [*flat, *names(given)]
        vectors = self._encoder.encode(words, progress)
        read = vectors
        if self._reads and (trained := self._trained_names(progress)) is not None:
            read = trained.read(vectors)
        row = {name: index for index, name in enumerate(words)}

        def rows(entry: Sequence[str]) -> npt.NDArray[np.float32]:
            return read[[row[name] for name in entry]]

        of_classes = [rows(entry.names) for entry in parsed]
        background: BackgroundClasses = [(entry, rows(entry)) for entry in given]
        if self._background == AUTO and (trained := self._trained_names(progress)) is not None:
            rules = self._rules[self.sensitivity]
            most = room(len(parsed), max(len(entry.names) for entry in parsed))
            kept = trained.away_from(flat, vectors, rules.drop)
            background = [
                (group, trained.weighted(trained.vectors(group), rules.weight)) for group in trained.groups(kept, most)
            ]
            if rules.take is not None and self._reads:
                taken = trained.taken_over(flat, vectors, rules.take)
                for index, entry in enumerate(parsed):
                    near = [name for own in entry.names for name in taken.get(own, ())][
                        : max(0, most - len(entry.names))
                    ]
                    of_classes[index] = np.concatenate([of_classes[index], trained.vectors(near)])
        stacked = stack_names(of_classes, vectors.shape[1])
        return with_background(Vocabulary(parsed, stacked), background)

    def candidates(self, parsed: tuple[ClassNames, ...]) -> Vocabulary:
        """`parsed`, then every trained class that competes with them as a class of its own, under its first name.

        Names of the background are grouped to be quick; this is for the question which of them is meant.
        """
        own = self.vocabulary(parsed)
        trained = self._trained_names(None)
        if self._background != AUTO or trained is None:
            return own
        flat = names(entry.names for entry in parsed)
        weight = self._rules[self.sensitivity].weight
        kept = set(trained.away_from(flat, self._encoder.encode(flat), self._rules[self.sensitivity].drop))
        room_left = self._manifest.graph.max_classes - len(parsed)
        entries = [entry for entry in self._manifest.background_classes if entry[0] in kept][:room_left]
        further = [ClassNames(entry[0], entry) for entry in entries]
        rows = [*own.vectors[: len(parsed)], *(trained.weighted(trained.vectors(entry), weight) for entry in entries)]
        return Vocabulary((*parsed, *further), stack_names(rows, own.vectors.shape[2]))

    def untrained(self, parsed: tuple[ClassNames, ...]) -> tuple[Reading, ...]:
        """Readings of the labels of those classes none of whose names is a trained one."""
        known = {name.casefold() for name in names(self._manifest.training_vocabulary)}
        if not known:
            return ()
        return tuple(
            self.reading(entry.label) for entry in parsed if not any(name.casefold() in known for name in entry.names)
        )

    def reading(self, name: str) -> Reading:
        """What `name` is to the model. Encodes it if it is not known yet."""
        if not self._manifest.training_vocabulary:
            return Reading(name, trained=False)
        trained = self._trained_names(None)
        known = names(self._manifest.training_vocabulary)
        if name.casefold() in {entry.casefold() for entry in known}:
            return Reading(name, trained=True, nearest=name, similarity=1.0)
        tokens: list[str | None] = self._encoder.tokens(name) if isinstance(self._encoder, Tokenizing) else [name]
        if tokens and not any(tokens):
            return Reading(name, trained=False, readable=False)
        nearest = None if trained is None else trained.nearest(self._encoder.encode([name])[0])
        return Reading(
            name,
            trained=False,
            nearest=None if nearest is None else nearest[0],
            similarity=0.0 if nearest is None else nearest[1],
            suggestion=suggestion(name, tokens, known),
        )

    def _given_background(self, active: Sequence[str]) -> list[tuple[str, ...]]:
        """Names of each background class that the user gave."""
        if self._background in (AUTO, NONE):
            return []
        given = [entry.names for entry in parse_classes(self._background, self._manifest.graph.max_classes)]
        folded = {name.casefold() for name in active}
        if both := [name for name in names(given) if name.casefold() in folded]:
            raise UsageError(f"{both[0]!r} is asked for as a class and as background; keep it in one of the two")
        return given

    def _trained_names(self, progress: Progress | None) -> Background | None:
        """The names the model was trained with, or that the bundle lists as background; None where there are none."""
        classes = self._manifest.background_classes
        if self._trained is None and classes:
            self._trained = Background(classes, self._encoder.encode(names(classes), progress), self._manifest.related)
        return self._trained

    def _reserved(self) -> int:
        """How many of the graph's classes the background may take."""
        if self._background == NONE:
            return 0
        if self._background == AUTO:
            return min(GROUPS, len(self._manifest.background_classes))
        return len(parse_classes(self._background, self._manifest.graph.max_classes))
