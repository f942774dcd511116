"""How a run is going: what the sinks show beside the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PLAYING = "playing"  # a source's state while frames come; any other text says what is wrong, for people


@dataclass(frozen=True)
class Status:
    """The run at one frame, or while a lost source sends none."""

    fps: float | None = None  # frames a second through the whole pipeline, of late; None before it is known, or photos
    age_ms: float | None = None  # from the capture of the picture to its arrival at the sinks; None for recordings
    timings: Mapping[str, float] = field(default_factory=dict)  # stage -> milliseconds, of this frame
    dropped: int = 0  # frames of a live source that were passed over for newer ones, in all
    source: str = PLAYING  # or "lost: …; reconnecting in 4 s"

    @property
    def lost(self) -> bool:
        """Whether the source sends nothing just now."""
        return self.source != PLAYING
