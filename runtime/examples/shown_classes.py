"""Classes that are shown: their examples, and the text vectors that stand for them.

    example ──reader──► vector (C,) ─┐
    example ──reader──► vector (C,) ─┴─ mean ──text space──► one row (D,), beside the rows of the class's names

An example has a plain vector and, of models without queries, one that was fitted to win its region. The plain ones are
the milder: they take little from other classes, and are used where they find the examples at all. Of things that are far
from all that the model was trained with they find nothing; then the fitted ones are used.

A class whose label is one of the names the model was trained with keeps its names: names and examples compete by
maximum, like synonyms. Any other label is only what the class is called. Examples of what is not meant ("not this") are
rows of a background class.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ..vocabulary.centring import unit
from .fitting import WEIGHT, FittedVector
from .text_space import TextSpace

MOST_EXAMPLES = 256  # of one class
MOST_SHOWN = 256  # classes
_FINDS = 0.1  # of the IoU with which the fitted vectors find the examples: plain ones that reach it are used
OWNED = 0.25  # share of a region from which on a trained name is no background of its class

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """One region that was shown."""

    vector: Floats  # (C,), unit, as the network compares it
    positive: bool = True  # False: the class is not this
    near: tuple[str, ...] = ()  # trained names that the model takes the region for
    thumbnail: bytes = b""  # JPEG of the region, for people; empty: none
    fitted: FittedVector | None = None  # None: none can be fitted


@dataclass(frozen=True)
class ShownClass:
    """A class with its examples and the vectors made of them."""

    label: str
    examples: tuple[Example, ...]
    rows: Floats  # (S, D) text vectors of the class; none while only its opposites are shown
    opposites: Floats  # (M, D) text vectors of what it is not

    @property
    def near(self) -> tuple[str, ...]:
        """Trained names that are no background while the class is in use."""
        return tuple(dict.fromkeys(name for example in self.examples if example.positive for name in example.near))

    @classmethod
    def of(cls, label: str, examples: Sequence[Example], space: TextSpace) -> ShownClass:
        """The class of these examples."""
        if len({example.vector.shape for example in examples}) > 1:
            raise UsageError(f"examples of {label!r} have vectors of different lengths; show them again")
        shown = _chosen([example for example in examples if example.positive])
        other = [vector for example in examples if not example.positive for vector in _chosen([example])]
        mean = list(unit(np.mean(np.stack(shown), axis=0, keepdims=True))) if shown else []
        return cls(label, tuple(examples), _to_text(mean, space), _to_text(other, space))


def _chosen(examples: Sequence[Example]) -> list[Floats]:
    """The plain vectors of examples, or the fitted ones where the plain ones do not find them."""
    fitted = [example.fitted for example in examples if example.fitted is not None]
    if not fitted or sum(one.found_plain for one in fitted) >= _FINDS * sum(one.found for one in fitted):
        return [example.vector for example in examples]
    return [one.vector for one in fitted]


def _to_text(vectors: Sequence[Floats], space: TextSpace) -> Floats:
    return space.to_text(space.weighted(np.stack(vectors), WEIGHT)) if vectors else np.zeros((0, 0), np.float32)


class ShownClasses:
    """All classes that were shown, by label; labels that differ in case only are one. Usable from any thread."""

    def __init__(self) -> None:
        self._classes: dict[str, ShownClass] = {}
        self._order: list[str] = []  # label of every example that was added here, for `undo`
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._classes)

    def get(self, label: str) -> ShownClass | None:
        """The class of a label; None where none was shown."""
        return self._classes.get(label.casefold())

    def all(self) -> tuple[ShownClass, ...]:
        """Every class, in the order in which they were shown first."""
        return tuple(self._classes.values())

    @property
    def undoable(self) -> bool:
        """Whether an example was added that `undo` takes back; those of files are none."""
        with self._lock:
            return any(key in self._classes for key in self._order)

    @contextmanager
    def unchanged_on_error(self) -> Iterator[None]:
        """What is done within is undone if it raises."""
        with self._lock:
            before = dict(self._classes), list(self._order)
        try:
            yield
        except BaseException:
            with self._lock:
                self._classes, self._order = before
            raise

    def add(self, label: str, example: Example, space: TextSpace) -> ShownClass:
        """One more example of a class. Raises `UsageError` for too many."""
        with self._lock:
            before = self._classes.get(label.casefold())
            examples = () if before is None else before.examples
            if len(examples) >= MOST_EXAMPLES or (before is None and len(self._classes) >= MOST_SHOWN):
                raise UsageError(
                    f"{label!r} would be one example too many: at most {MOST_EXAMPLES} of a class and {MOST_SHOWN} "
                    "classes can be shown; save the classes and start again with fewer"
                )
            made = ShownClass.of(label if before is None else before.label, (*examples, example), space)
            self._classes[label.casefold()] = made
            self._order.append(label.casefold())
            return made

    def undo(self, space: TextSpace) -> ShownClass:
        """Take back the example that was added last; returns its class without it. Raises `UsageError` without one."""
        with self._lock:
            while self._order:
                key = self._order.pop()
                before = self._classes.get(key)
                if before is None or not before.examples:
                    continue
                made = ShownClass.of(before.label, before.examples[:-1], space)
                if made.examples:
                    self._classes[key] = made
                else:
                    del self._classes[key]
                return made
        raise UsageError("no example was added that could be taken back")

    def set(self, label: str, examples: Sequence[Example], space: TextSpace) -> None:
        """A class of these examples, in place of one with its label."""
        made = ShownClass.of(label, examples, space)
        with self._lock:
            self._classes[label.casefold()] = made

    def clear(self) -> None:
        """Forget all classes."""
        with self._lock:
            self._classes, self._order = {}, []

    def put(self, classes: Sequence[ShownClass]) -> None:
        """Take over classes from a file, in place of those with their labels; `undo` leaves their examples alone."""
        with self._lock:
            given = {entry.label.casefold(): entry for entry in classes}
            merged = {**self._classes, **given}
            if len(merged) > MOST_SHOWN:
                raise UsageError(f"{len(merged)} classes would be shown, at most {MOST_SHOWN} can be; load fewer")
            self._classes = merged
            self._order = [key for key in self._order if key not in given]
