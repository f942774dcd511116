"""Everything that can be changed or asked while a run goes on; the window and the web page share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bundle.errors import UsageError
from .controls import Controls, Settings
from .draw.overlay import Style
from .events.places import Places
from .events.watch import EventWatch
from .inference.inspector import Inspector
from .segmenter import Segmenter
from .vocabulary.live import LiveVocabulary


@dataclass(frozen=True)
class Interaction:
    """The handles of one run."""

    segmenter: Segmenter  # in use, with its first classes set
    controls: Controls  # threshold and drawing
    vocabulary: LiveVocabulary  # the classes
    inspector: Inspector  # answers what is at a point
    watch: EventWatch | None = None  # zones, lines and rules, where there are any

    @classmethod
    def of(
        cls, segmenter: Segmenter, style: Style, presets: Sequence[str] = (), watch: EventWatch | None = None
    ) -> Interaction:
        """Handles of `segmenter`, which has its classes; `presets` are lists of classes for the keys 1 to 9.

        `watch` is what the pipeline calls with each frame, if zones and rules are to be seen and changed.
        """

        def apply(settings: Settings) -> None:
            segmenter.threshold = settings.threshold

        controls = Controls(Settings(segmenter.threshold, style), apply)
        return cls(segmenter, controls, LiveVocabulary(segmenter, presets), Inspector(segmenter), watch)

    def set_places(self, places: Places, base: Places | None = None) -> bool:
        """Watch other zones and lines, and draw them where they are drawn. Returns whether they were saved.

        See `EventWatch.set_places`. Raises `UsageError` also where there is no watch.
        """
        if self.watch is None:
            raise UsageError("this run has no zones; start it with --zones zones.toml")
        saved = self.watch.set_places(places, base)
        if self.controls.style.places is not None:
            self.controls.change(places=self.watch.places)
        return saved

    def close(self) -> None:
        """End the threads behind the handles; may be called more than once."""
        self.vocabulary.close()
        self.inspector.close()
