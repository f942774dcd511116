"""State of a run, which the sinks show beside the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PLAYING = "playing"  # a source's state while frames come; any other text says what is wrong


@dataclass(frozen=True)
class Status:
    """State at one frame, or while a lost source sends none."""

    fps: float | None = None  # throughput of the whole pipeline, recent frames; None if not known yet, and for photos
    age_ms: float | None = None  # frame age, from capture to the sinks; None for recordings
    timings: Mapping[str, float] = field(default_factory=dict)  # stage -> milliseconds, of this frame
    dropped: int = 0  # stale frames of a live source that were dropped so far
    source: str = PLAYING  # or "lost: …; reconnecting in 4 s"

    @property
    def lost(self) -> bool:
        """Whether the source sends nothing just now."""
        return self.source != PLAYING
