"""What the model makes of a name: trained, out of vocabulary, misspelt, or not readable at all."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol, runtime_checkable

_FAR = 0.6  # cosine below which an out-of-vocabulary name is not simply another word for a trained one
_ALIKE = 0.8  # difflib's ratio from which a name may be a misspelling of a trained one


@dataclass(frozen=True)
class Reading:
    """What a name is to the model."""

    name: str
    trained: bool  # it is one of the names the model was trained with
    readable: bool = True  # the text encoder knows a part of it at least
    nearest: str | None = None  # of the trained names; None where the bundle lists none
    similarity: float = 0.0  # cosine with `nearest`, the mean of all trained names taken off
    suggestion: str | None = None  # trained name that it may be a misspelling of

    @property
    def doubtful(self) -> bool:
        """Whether the user should hear of it: the model may well take the name for something else."""
        return not self.trained and (
            not self.readable or self.suggestion is not None or (self.nearest is not None and self.similarity < _FAR)
        )

    def __str__(self) -> str:
        if self.trained:
            return f"{self.name}: a trained name"
        if not self.readable:
            return f"{self.name}: the text encoder cannot read it; use English words"
        if self.suggestion is not None:
            return f"{self.name}: not a trained name; did you mean {self.suggestion}?"
        if self.nearest is None:
            return f"{self.name}: the bundle lists no trained names"
        return f"{self.name}: never trained; nearest: {self.nearest} {self.similarity:.2f}"


@runtime_checkable
class Tokenizing(Protocol):
    """An encoder that can tell how it splits a name."""

    def tokens(self, name: str) -> list[str | None]:
        """The tokens of a name, without marks and padding; None for one that is unknown."""
        ...


def suggestion(name: str, tokens: list[str | None], trained: list[str]) -> str | None:
    """The trained name that `name` may be a misspelling of.

    A word that the tokenizer knows as a whole is none ("hair" is not a misspelt "chair"). Letters in another order count
    as alike ("bycicle").
    """
    if len(tokens) <= len(name.split()):
        return None
    by_case = {known.casefold(): known for known in trained}
    found = get_close_matches(name.casefold(), by_case, n=1, cutoff=_ALIKE)
    found += [known for known in by_case if sorted(known) == sorted(name.casefold())]
    return by_case[found[0]] if found else None
