"""From class names to what the network is given: the user's classes, then the background classes, all as text vectors.

    "person,bike|bicycle" ──parse──► names ──encode──► vectors ──read──► (K, S, D), the classes in use

`read`: out-of-vocabulary names are moved towards the nearest trained name (out_of_vocabulary.py). Background classes
are made of the names the model was trained with, except those that mean one of the user's classes (background.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ...bundle.manifest import Manifest
from ...bundle.vocabulary import ClassNames, Vocabulary, parse_class_entries, parse_classes, stack_names
from ..examples.shown_classes import OWNED, ShownClasses
from ..examples.text_space import TextSpace
from .background import GROUPS, Background, names, room, with_background
from .reading import Reading, Tokenizing, suggestion
from .sensitivity import DENSE_RULES, PUBLISHED_RULES, RULES, Sensitivity

Floats = npt.NDArray[np.float32]
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
        shown: ShownClasses | None = None,
        *,
        exact_words: bool = False,
    ) -> None:
        """`background` is "auto" (the trained names), "none", or names such as "wall,floor".

        `shown` holds the classes that may be asked for by example. `exact_words` takes names as the encoder gives
        them: none is moved towards a trained name or takes one over.
        """
        self._manifest = manifest
        self._encoder = encoder
        self._background = background
        self._shown = ShownClasses() if shown is None else shown
        # Measured on sentence vectors alone; CLIP's were trained with pictures, and published models expect them as
        # they are.
        sentences = manifest.text.encoder == "minilm"
        self._reads = sentences and not exact_words
        queries = manifest.graph.decoder_layers > 0
        self._rules = (RULES if queries else DENSE_RULES) if sentences else PUBLISHED_RULES
        self._background_apart = sentences and not queries
        self.sensitivity = sensitivity
        self._trained: Background | None = None

    def parse(self, classes: str | Iterable[str]) -> tuple[ClassNames, ...]:
        """The classes of a text as `parse_classes` reads it, or of a list whose entries are literal names.

        Raises `UsageError`, and `TypeError` for what is neither; a set has no order, and so no indices of classes.
        """
        limit = max(1, self._manifest.graph.max_classes - self._reserved())
        if isinstance(classes, str):
            return parse_classes(classes, limit)
        expected = 'expected a text such as "person,bike|bicycle", or a list such as ["person", "bike|bicycle"]'
        if isinstance(classes, bytes | Mapping | set | frozenset) or not isinstance(classes, Iterable):
            raise TypeError(f"the classes are a {type(classes).__name__}, {expected}")
        entries = list(classes)
        if wrong := [entry for entry in entries if not isinstance(entry, str)]:
            raise TypeError(f"among the classes there is a {type(wrong[0]).__name__}, {expected}")
        return parse_class_entries(entries, limit)

    def vocabulary(self, parsed: tuple[ClassNames, ...], progress: Progress | None = None) -> Vocabulary:
        """`parsed` and the background classes behind them, with their vectors (K, S, D)."""
        flat = names(entry.names for entry in parsed if self._has_words(entry))
        given = self._given_background(names(entry.names for entry in parsed))
        words = [*flat, *names(given)]
        vectors = self._encoder.encode(words, progress)
        read = vectors
        if self._reads and (trained := self._trained_names(progress)) is not None:
            read = trained.read(vectors)
        row = {name: index for index, name in enumerate(words)}

        def rows(entry: Sequence[str]) -> npt.NDArray[np.float32]:
            return read[[row[name] for name in entry]]

        of_classes = [
            np.concatenate([rows(entry.names if self._has_words(entry) else ()), *self._rows_shown(entry)])
            for entry in parsed
        ]
        background: BackgroundClasses = [(entry, rows(entry)) for entry in given]
        opposites = self._opposites(parsed)
        if self._background == AUTO and (trained := self._trained_names(progress)) is not None:
            rules = self._rules[self.sensitivity]
            most = room(len(parsed), max(len(entry.names) for entry in parsed))
            kept = trained.away_from(flat, vectors[: len(flat)], rules.drop)
            owned = trained.classes_of(self._owned(parsed)) | trained.worn(flat)
            kept = [name for name in kept if name not in owned]
            groups = trained.apart(kept, most) if self._background_apart else []
            if not 0 < len(groups) <= self._manifest.graph.max_classes - len(parsed) - len(opposites):
                groups = trained.groups(kept, most)
            background = [(group, trained.weighted(trained.vectors(group), rules.weight)) for group in groups]
            if rules.take is not None and self._reads:
                taken = trained.taken_over(flat, vectors, rules.take)
                for index, entry in enumerate(parsed):
                    near = [name for own in entry.names for name in taken.get(own, ())][
                        : max(0, most - len(entry.names))
                    ]
                    of_classes[index] = np.concatenate([of_classes[index], trained.vectors(near)])
        stacked = stack_names(of_classes, self._manifest.text.dim)
        return with_background(Vocabulary(parsed, stacked), [*background, *opposites])

    @property
    def margin(self) -> float:
        """By how much the sensitivity raises the confidence threshold."""
        return self._rules[self.sensitivity].margin

    def candidates(self, parsed: tuple[ClassNames, ...]) -> Vocabulary:
        """`parsed`, then every trained class that competes with them as a class of its own, under its first name.

        Names of the background may be grouped, to be quick; this is for the question which of them is meant.
        """
        own = self.vocabulary(parsed)
        trained = self._trained_names(None)
        if self._background != AUTO or trained is None:
            return own
        flat = names(entry.names for entry in parsed if self._has_words(entry))
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
            self.reading(entry.label)
            for entry in parsed
            if not (any(name.casefold() in known for name in entry.names) or self._rows_shown(entry))
        )

    def is_trained(self, label: str) -> bool:
        """Whether a label is one of the names the model was trained with; of a model that lists none, any is."""
        known = {name.casefold() for name in names(self._manifest.training_vocabulary)}
        return not known or label.casefold() in known

    def owners(self, shares: Callable[[Floats], Floats], space: TextSpace) -> tuple[str, ...]:
        """The trained name that a region is taken for, if it is for the most part; `shares` gives those of names."""
        trained = self._trained_names(None)
        if trained is None:
            return ()
        known = names(self._manifest.background_classes)
        found = shares(space.from_text(trained.vectors(known)))
        return tuple(name for name, share in zip(known, found, strict=True) if share >= OWNED)

    def rivals(self, own: ClassNames, near: Sequence[str]) -> Floats:
        """Text vectors (R, D) of the background that competes with examples of the class `own`.

        `near` are trained names that the region is taken for.
        """
        words = own.names if any(map(self.is_trained, own.names)) else ()
        if self._background != AUTO:
            return self._encoder.encode(names(self._given_background(own.names)))
        if (trained := self._trained_names(None)) is None:
            return np.zeros((0, self._manifest.text.dim), np.float32)
        rules = self._rules[self.sensitivity]
        kept = set(trained.away_from(words, self._encoder.encode(words), rules.drop)) - trained.classes_of(near)
        return trained.weighted(trained.vectors(sorted(kept)), rules.weight)

    def _has_words(self, entry: ClassNames) -> bool:
        """Whether a class is asked for by its names: unless it was shown, and its label is none that was trained."""
        return not self._rows_shown(entry) or any(map(self.is_trained, entry.names))

    def _rows_shown(self, entry: ClassNames) -> list[Floats]:
        """Text vectors (S, D) of what was shown of a class, in a list of one; nothing where nothing was."""
        shown = self._shown.get(entry.label)
        return [] if shown is None or not len(shown.rows) else [shown.rows]

    def _owned(self, parsed: Iterable[ClassNames]) -> list[str]:
        """Trained names that the regions shown of untrained classes are taken for: they do not compete with them."""
        found = [self._shown.get(entry.label) for entry in parsed if not self._has_words(entry)]
        return [name for shown in found if shown is not None for name in shown.near]

    def _opposites(self, parsed: Iterable[ClassNames]) -> BackgroundClasses:
        """A background class of what each class is not."""
        found = [(entry.label, self._shown.get(entry.label)) for entry in parsed]
        return [
            ([f"not {label}"], shown.opposites) for label, shown in found if shown is not None and len(shown.opposites)
        ]

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
        opposites = sum(1 for shown in self._shown.all() if len(shown.opposites))
        if self._background == NONE:
            return opposites
        if self._background == AUTO:
            return opposites + min(GROUPS, len(self._manifest.background_classes))
        return opposites + len(parse_classes(self._background, self._manifest.graph.max_classes))
