"""Everything that can be changed or asked while a run goes on; the window and the web page share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .controls import Controls, Settings
from .draw.overlay import Style
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

    @classmethod
    def of(cls, segmenter: Segmenter, style: Style, presets: Sequence[str] = ()) -> Interaction:
        """Handles of `segmenter`, which has its classes; `presets` are lists of classes for the keys 1 to 9."""

        def apply(settings: Settings) -> None:
            segmenter.threshold = settings.threshold

        controls = Controls(Settings(segmenter.threshold, style), apply)
        return cls(segmenter, controls, LiveVocabulary(segmenter, presets), Inspector(segmenter))

    def close(self) -> None:
        """End the threads behind the handles; may be called more than once."""
        self.vocabulary.close()
        self.inspector.close()
