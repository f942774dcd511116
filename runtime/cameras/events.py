"""Events of several cameras: each has its own zones and rules, and all share the ways that events go."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ...bundle.errors import OvsError
from ..events.config import WatchConfig
from ..events.delivery.dispatcher import DeliveryState, EventDispatcher
from ..events.delivery.options import DeliveryConfig
from ..events.engine import EventEngine
from ..events.event import Event
from ..events.rules import Rule
from ..frame import Frame
from ..inference.prediction import Prediction

Rules = Mapping[str, Mapping[str, Rule]]  # of each camera, by their names


class EventOutlet:
    """The ways that events go, which a new configuration may replace. Every method may be called from any thread."""

    def __init__(self, config: DeliveryConfig, rules: Rules) -> None:
        """Raises `SinkError` where events cannot be kept, `MissingExtraError`."""
        self._lock = threading.Lock()
        self._config = config
        self._dispatcher = EventDispatcher(config, rules)

    @property
    def snapshots(self) -> bool:
        """Whether events go with a picture."""
        return self._config.snapshots

    @property
    def states(self) -> tuple[DeliveryState, ...]:
        """How each way of delivery is."""
        with self._lock:
            return self._dispatcher.states

    def publish(self, events: Sequence[Event], picture: npt.NDArray[np.uint8] | None) -> None:
        """Deliver `events` in this order; returns once they are on disk. Raises `SinkError` where it is full."""
        with self._lock:
            self._dispatcher.publish(events, picture)

    def reconfigure(self, config: DeliveryConfig, rules: Rules) -> bool:
        """Other ways, or other rules; whether the ways are others. What waits on disk stays there meanwhile.

        Raises `SinkError`, `MissingExtraError`; then the ways are as before.
        """
        with self._lock:
            if config == self._config:
                self._dispatcher.reconfigure(rules)
                return False
            self._dispatcher.close(drain=0)
            try:
                self._dispatcher = EventDispatcher(config, rules)
            except OvsError:
                self._dispatcher = EventDispatcher(self._config, rules)
                raise
            self._config = config
            return True

    def close(self) -> None:
        """Deliver what waits for some seconds, and end."""
        with self._lock:
            self._dispatcher.close()


class CameraEvents:
    """Zones and rules of one camera."""

    def __init__(self, camera: str, config: WatchConfig, outlet: EventOutlet) -> None:
        self._camera = camera
        self._outlet = outlet
        self._engine: EventEngine | None = None  # without rules there is nothing to follow
        self._events: tuple[Event, ...] = ()  # of the frame that was observed last
        self.reconfigure(config)

    @property
    def wants_picture(self) -> bool:
        """Whether the events of the frame that was observed last go with a picture."""
        return bool(self._events) and self._outlet.snapshots

    def reconfigure(self, config: WatchConfig) -> None:
        """Watch for something else from the next frame on; from any thread."""
        if self._engine is not None:
            self._engine.reconfigure(config)
        elif config.rules or config.places.zones or config.places.lines:
            self._engine = EventEngine(config, self._camera)

    def observe(self, frame: Frame, prediction: Prediction) -> Prediction:
        """`prediction` with its tracks; its events wait for `deliver`."""
        if self._engine is None:
            return prediction
        taken = time.time() - (time.monotonic() - frame.captured)
        seen = self._engine.update(frame.time, prediction, taken)
        self._events = seen.events
        return seen.prediction

    def deliver(self, picture: npt.NDArray[np.uint8] | None) -> int:
        """Send the events of the last frame, with `picture` (H, W, 3) BGR where that is asked for; how many there were.

        Raises `SinkError`.
        """
        events, self._events = self._events, ()
        if events:
            self._outlet.publish(events, picture)
        return len(events)
