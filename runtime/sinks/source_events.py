"""A live source that is lost, and that comes back: said once each, for people and for programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..frame import Frame
from ..inference.prediction import Prediction
from ..status import Status


class LossWatch:
    """Turns what a sink sees into events: a dictionary each, as a JSON line has them."""

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._lost: float | None = None  # time.monotonic() at which the source was found lost

    def idle(self, status: Status) -> dict[str, Any] | None:
        """The event of being lost, when it begins."""
        if not status.lost or self._lost is not None:
            return None
        self._lost = time.monotonic()
        reason = status.source.removeprefix("lost: ").partition("; reconnecting")[0]
        return {**self._now(), "event": "lost", "reason": reason}

    def frame(self, frame: Frame) -> dict[str, Any] | None:
        """The event of being back, if the source was lost before `frame` was captured."""
        event = None
        if self._lost is not None and frame.captured > self._lost:  # not one that was on its way
            event = {**self._now(), "event": "recovered", "seconds": round(time.monotonic() - self._lost, 3)}
            self._lost = None
        self._last = frame
        return event

    def _now(self) -> dict[str, Any]:
        if self._last is None:
            return {"index": -1, "time": 0.0}
        passed = time.monotonic() - self._last.captured
        return {"index": self._last.index, "time": round(self._last.time + passed, 6)}


class LossNotes:
    """A sink that tells the user when a live source is lost and when it is back."""

    wants_picture = False
    place: str | None = None

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._watch = LossWatch()

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Say that the source is back."""
        if (event := self._watch.frame(frame)) is not None:
            self._tell(f"the source is back after {event['seconds']:.1f} s")
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Say that the source is lost."""
        if (event := self._watch.idle(status)) is not None:
            self._tell(f"the source is lost: {event['reason']}; it is opened again when it is there")
        return True

    def finish(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is held open."""
