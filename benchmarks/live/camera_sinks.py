"""Sinks that measure a live run."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from ...runtime.frame import Frame
from ...runtime.inference.prediction import Prediction
from ...runtime.status import Status


class TimedSink:
    """Counts frames for some seconds, after some others, until there is at least one; then it ends the run."""

    wants_picture = False
    place: str | None = None

    def __init__(self, settle: float, seconds: float) -> None:
        self.ages: list[float] = []  # milliseconds
        self.models: list[float] = []
        self._settle, self._seconds = settle, seconds
        self._begun: float | None = None
        self._last = 0.0  # seconds of counting at the last frame
        self._cpu = (0.0, 0.0)  # processor time of the process at the first and the last counted frame

    @property
    def fps(self) -> float:
        """Frames a second."""
        return len(self.ages) / max(self._seconds, self._last)

    @property
    def cpu_ms(self) -> float:
        """Processor time a frame, of all threads of the process."""
        first, last = self._cpu
        return (last - first) * 1e3 / max(1, len(self.ages) - 1)

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Count the frame."""
        now = time.monotonic()
        self._begun = now if self._begun is None else self._begun
        if now - self._begun > self._settle and self._goes_on(now):
            self._last = now - self._begun - self._settle
            used = time.process_time()
            self._cpu = (self._cpu[0] if self.ages else used, used)
            self.ages.append(status.age_ms or 0.0)
            self.models.append(status.timings["model"])
        return self._goes_on(now)

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """End the run when it is time."""
        return self._goes_on(time.monotonic())

    def finish(self) -> None:
        """There is nothing to complete."""

    def close(self) -> None:
        """There is nothing to free."""

    def _goes_on(self, now: float) -> bool:
        return self._begun is None or not self.ages or now - self._begun <= self._settle + self._seconds
