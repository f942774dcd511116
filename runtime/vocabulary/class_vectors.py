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
        self, manifest: Manifest, encoder: Encoder, background: str = AUTO, *, exact_words: bool = False
    ) -> None:
        """`background` is "auto" (the trained names), "none", or names such as "wall,floor".

        `exact_words` leaves out-of-vocabulary names as the encoder gives them.
        """
        self._manifest = manifest
        self._encoder = encoder
        self._background = background
        # Measured on sentence vectors alone; CLIP's were trained with pictures, and published models expect them as
        # they are.
        self._reads = not exact_words and manifest.text.encoder == "minilm"
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

        stacked = stack_names([rows(entry.names) for entry in parsed], vectors.shape[1])
        background: BackgroundClasses = [(entry, rows(entry)) for entry in given]
        if self._background == AUTO:
            background = self._trained_background(parsed, flat, vectors, progress)
        return with_background(Vocabulary(parsed, stacked), background)

    def _given_background(self, active: Sequence[str]) -> list[tuple[str, ...]]:
        """Names of each background class that the user gave."""
        if self._background in (AUTO, NONE):
            return []
        given = [entry.names for entry in parse_classes(self._background, self._manifest.graph.max_classes)]
        folded = {name.casefold() for name in active}
        if both := [name for name in names(given) if name.casefold() in folded]:
            raise UsageError(f"{both[0]!r} is asked for as a class and as background; keep it in one of the two")
        return given

    def _trained_background(
        self,
        parsed: tuple[ClassNames, ...],
        active: list[str],
        vectors: npt.NDArray[np.float32],
        progress: Progress | None,
    ) -> BackgroundClasses:
        """Background classes of the names that the model was trained with."""
        trained = self._trained_names(progress)
        if trained is None:
            return []
        most = room(len(parsed), max(len(entry.names) for entry in parsed))
        return [(group, trained.vectors(group)) for group in trained.groups(trained.away_from(active, vectors), most)]

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
