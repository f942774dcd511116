"""Where the events of several cameras go: each has its own zones and rules, and all share the ways of delivery."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from ...bundle.errors import OvsError
from ..events.delivery.dispatcher import DeliveryState, EventDispatcher
from ..events.delivery.options import DeliveryConfig
from ..events.event import Event
from ..events.rule_states import RuleStates
from ..events.rules import Rule

Rules = Mapping[str, Mapping[str, Rule]]  # of each camera, by their names


class EventOutlet:
    """The ways that events go, which a new configuration may replace. Every method may be called from any thread."""

    def __init__(self, config: DeliveryConfig, rules: Rules) -> None:
        """Raises `SinkError` where events cannot be kept, `MissingExtraError`."""
        self._lock = threading.Lock()
        self._config = config
        self._rule_states = RuleStates()
        self._dispatcher = self._opened(config, rules)

    @property
    def snapshots(self) -> bool:
        """Whether events go with a picture."""
        return self._config.snapshots

    @property
    def states(self) -> tuple[DeliveryState, ...]:
        """How each way of delivery is."""
        with self._lock:
            return self._dispatcher.states

    def publish(self, events: Iterable[Event], picture: npt.NDArray[np.uint8] | None = None) -> None:
        """Deliver `events` in this order; returns once they are on disk. Raises `SinkError` where it is full."""
        with self._lock:
            self._dispatcher.publish(events, picture)

    def set_states(self, camera: str, active: Mapping[str, bool]) -> None:
        """Which rules' states are on, of all rules of `camera`."""
        self._rule_states.set(camera, active)

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
                self._dispatcher = self._opened(config, rules)
            except OvsError:
                self._dispatcher = self._opened(self._config, rules)
                raise
            self._config = config
            return True

    def close(self) -> None:
        """Deliver what waits for some seconds, and end."""
        with self._lock:
            self._dispatcher.close()

    def _opened(self, config: DeliveryConfig, rules: Rules) -> EventDispatcher:
        return EventDispatcher(config, rules, states=self._rule_states)
