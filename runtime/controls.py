"""Settings that can be changed while a run goes on, besides the classes: threshold, opacity, colours, …

They are one immutable value that is replaced as a whole. The pipeline reads it once per frame, so a frame is never
drawn half by one setting and half by another.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ..bundle.errors import UsageError
from ..bundle.vocabulary import MAX_NAME
from .draw.overlay import Style
from .events.places import Places

_MOST_LABELS = 1024  # with a colour of their own, or hidden; more than any bundle's classes

Bgr = tuple[int, int, int]


@dataclass(frozen=True)
class Settings:
    """How frames are labelled and drawn."""

    threshold: float  # least confidence of a labelled pixel, 0..1
    style: Style

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"the threshold is {self.threshold:g}, expected a confidence from 0 to 1")


class Controls:
    """The current settings. Every method may be called from any thread."""

    def __init__(self, settings: Settings, apply: Callable[[Settings], None] | None = None) -> None:
        """`apply` is called with every change before `change` returns, for parts that do not read `settings`."""
        self._settings = settings
        self._apply = apply
        self._lock = threading.Lock()

    @property
    def settings(self) -> Settings:
        """The current settings, as one value."""
        return self._settings

    @property
    def style(self) -> Style:
        """How the next frame is drawn."""
        return self._settings.style

    def change(
        self,
        *,
        threshold: float | None = None,
        opacity: float | None = None,
        outlines: bool | None = None,
        names: bool | None = None,
        legend: bool | None = None,
        hidden: Iterable[str] | None = None,
        colours: Mapping[str, Bgr | None] | None = None,
        places: Places | None = None,
    ) -> Settings:
        """Change what is given, leave the rest, from the next frame on.

        `hidden` replaces the set of hidden labels. `colours` (BGR) adds to those chosen before; None gives a label its
        own colour back. Raises `UsageError` for a value out of range; then nothing changes.
        """

        def merged(before: Settings) -> Settings:
            style = replace(before.style, **changes)  # type: ignore[arg-type]
            if hidden is not None:
                style = replace(style, hidden=frozenset(_sound(hidden)))
            if colours is not None:
                chosen = {**style.colours, **{label: colours[label] for label in _sound(colours)}}
                kept = {label: colour for label, colour in chosen.items() if colour is not None}
                # Labels come and go; the colours chosen last are those that still matter.
                style = replace(style, colours=dict(list(kept.items())[-_MOST_LABELS:]))
            return Settings(before.threshold if threshold is None else threshold, style)

        given = {"opacity": opacity, "outlines": outlines, "names": names, "legend": legend, "places": places}
        changes = {name: value for name, value in given.items() if value is not None}
        return self.update(merged)

    def update(self, change: Callable[[Settings], Settings]) -> Settings:
        """Replace the settings by what `change` makes of them, from the next frame on; it must not take long."""
        with self._lock:
            self._settings = change(self._settings)
            if self._apply is not None:
                self._apply(self._settings)
            return self._settings


def _sound(labels: Iterable[str]) -> list[str]:
    found = list(labels)
    if len(found) > _MOST_LABELS or any(len(label) > MAX_NAME for label in found):
        raise UsageError(
            f"{len(found)} labels were given, expected at most {_MOST_LABELS} of at most {MAX_NAME} characters"
        )
    return found
