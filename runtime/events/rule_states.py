"""Which rules' states are on, of all cameras of a run: what a retained MQTT topic says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

Listener = Callable[[str, str, bool], None]  # called with a camera, a rule, and whether its state is on


class RuleStates:
    """The states as of the last frame of each camera. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on: dict[str, frozenset[str]] = {}  # camera -> rules whose state is on
        self._listeners: list[Listener] = []

    def set(self, camera: str, active: Mapping[str, bool]) -> None:
        """The states of all rules of `camera`; listeners hear of those that changed, in the order of the changes."""
        on = frozenset(name for name, state in active.items() if state)
        with self._lock:
            before = self._on.get(camera, frozenset())
            self._on[camera] = on
            for name in sorted(on ^ before):
                for listener in self._listeners:
                    listener(camera, name, name in on)

    def is_on(self, camera: str, rule: str) -> bool:
        """Whether the state of a rule is on; a listener may ask, too, and then learns of the change that it hears of."""
        return rule in self._on.get(camera, frozenset())

    def listen(self, listener: Listener) -> None:
        """Call `listener` at every change from now on; it must return soon and not change states."""
        with self._lock:
            self._listeners.append(listener)

    def forget(self, listener: Listener) -> None:
        """Call `listener` no more."""
        with self._lock:
            self._listeners.remove(listener)
