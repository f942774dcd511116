"""What is counted of a camera, for the page and the metrics."""

from __future__ import annotations

import statistics
import time
from collections import deque
from enum import Enum

_RECENT = 30  # frames over which the rate and the age are averaged
_SILENT = 3.0  # seconds without a frame after which the rate is zero


class CameraState(str, Enum):
    """What a camera is doing."""

    OPENING = "opening"  # it has not sent a frame yet
    PLAYING = "playing"
    LOST = "lost"  # it was there and sends nothing; it is opened again
    FAILED = "failed"  # it does not open, or an error ended it; it is tried again


class CameraCounts:
    """Written by the camera's threads, read by any; every value is replaced as a whole."""

    def __init__(self) -> None:
        self.frames = 0  # labelled and given to the outputs
        self.events = 0
        self.lost_events = 0  # frames whose events could not be kept
        self.failures = 0  # times it could not be opened, or an error ended it
        self.output_failures = 0  # outputs that were given up
        self.dropped_before = 0  # stale frames of sources that are closed
        self.model_seconds = 0.0  # in the network, all frames together
        self._arrivals: deque[float] = deque(maxlen=_RECENT + 1)  # time.monotonic() at the outputs
        self._ages: deque[float] = deque(maxlen=_RECENT)
        self._models: deque[float] = deque(maxlen=_RECENT)

    def frame(self, age_ms: float, model_ms: float | None) -> None:
        """A frame has reached the outputs; `model_ms` None: it did not need the network."""
        self.frames += 1
        self._arrivals.append(time.monotonic())
        self._ages.append(age_ms)
        if model_ms is not None:
            self._models.append(model_ms)
            self.model_seconds += model_ms / 1e3

    def idle(self) -> None:
        """No frame has come for a while."""
        arrivals = self._arrivals
        if arrivals and time.monotonic() - arrivals[-1] > _SILENT:
            self._arrivals = deque(maxlen=_RECENT + 1)
            self._ages = deque(maxlen=_RECENT)

    @property
    def fps(self) -> float | None:
        """Frames a second at the outputs, recently; None where there are too few."""
        times = list(self._arrivals)
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 2 and times[-1] > times[0] else None

    @property
    def age_ms(self) -> float | None:
        """Median frame age at the outputs, recently."""
        ages = list(self._ages)
        return statistics.median(ages) if ages else None

    @property
    def model_ms(self) -> float | None:
        """Median time in the network, recently."""
        models = list(self._models)
        return statistics.median(models) if models else None
