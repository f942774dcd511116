"""Whether a frame follows on the one before it: a camera may have been away, a recording may start again."""

from __future__ import annotations

from collections import deque
from enum import Enum

KEPT = 1.0  # seconds that a region which is not seen keeps its id
_TIMES = 2.0  # the usual time between frames, from which no frame has been missed
_SLACK = 1e-6  # of comparisons of times
_RECENT = 64  # frames: more than two from one key frame to the next, which may take long (inference/keyframes.py)


class Continuity(Enum):
    """How a frame relates to those before it."""

    CONTINUES = "continues"  # nothing to speak of has been missed; also the first frame
    GAP = "gap"  # for too long there was no frame, or it has another size: nothing is known of the time in between
    RESTART = "restart"  # its time is before that of the last one: a recording is played again


class FramePace:
    """Tells gaps from the usual time between the frames of a stream, which may be ten milliseconds or a minute.

    A gap is longer than `KEPT`, and longer than twice the second longest time between the last 64 frames: with one
    outage among them it is told from the next, and a slow camera goes on from its fourth frame. A time in which the source
    is known to have been lost is a gap from `KEPT` on, and not one of those times.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._recent: deque[float] = deque(maxlen=_RECENT)  # seconds from frame to frame

    def step(self, seconds: float, *, lost: bool = False) -> Continuity:
        """How the frame of the time `seconds` relates to those before; `lost`: the source was, since the last one."""
        before, self._last = self._last, seconds
        if before is None:
            return Continuity.CONTINUES
        passed = seconds - before
        if passed < 0:
            return Continuity.RESTART
        known = passed <= KEPT + _SLACK or (not lost and passed <= _TIMES * self._usual + _SLACK)
        if not lost:
            self._recent.append(passed)
        return Continuity.CONTINUES if known else Continuity.GAP

    @property
    def _usual(self) -> float:
        return sorted(self._recent)[-2] if len(self._recent) > 1 else 0.0
