"""Where the events of several cameras go: each has its own zones and rules, and all share the ways of delivery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from ..events.delivery.dispatcher import EventDispatcher
from ..events.delivery.lane import DeliveryState
from ..events.delivery.options import DeliveryConfig
from ..events.event import Event
from ..events.rules import Rule

Rules = Mapping[str, Mapping[str, Rule]]  # of each camera, by their names


class EventOutlet:
    """The ways that events go, which a new configuration may replace. Every method may be called from any thread."""

    def __init__(self, config: DeliveryConfig, rules: Rules) -> None:
        """Raises `UsageError`, `SinkError` where events cannot be kept, `MissingExtraError`."""
        self._dispatcher = EventDispatcher(config, rules)

    @property
    def snapshots(self) -> bool:
        """Whether events go with a picture."""
        return self._dispatcher.snapshots

    @property
    def states(self) -> tuple[DeliveryState, ...]:
        """How each way of delivery is."""
        return self._dispatcher.states

    def publish(self, events: Iterable[Event], picture: npt.NDArray[np.uint8] | None = None) -> None:
        """Deliver `events` in this order; see `EventDispatcher.publish`."""
        self._dispatcher.publish(events, picture)

    def set_states(self, camera: str, active: Mapping[str, bool]) -> None:
        """Which rules' states are on, of all rules of `camera`."""
        self._dispatcher.set_states(camera, active)

    def reconfigure(self, config: DeliveryConfig, rules: Rules) -> bool:
        """Other ways, or other rules; whether the ways are others. No camera waits meanwhile, whatever a receiver does.

        Raises `UsageError`, `SinkError`, `MissingExtraError`; then the ways are as before.
        """
        return self._dispatcher.change(config, rules)

    def close(self) -> None:
        """Deliver what waits for some seconds, and end."""
        self._dispatcher.close()
