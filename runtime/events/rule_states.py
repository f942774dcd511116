"""Which rules' states are on, of all cameras of a run, and which cameras play: what retained MQTT topics say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

# Called with a camera, a rule, and whether its state is on; for the camera itself, without a rule, whether it plays.
Listener = Callable[[str, str | None, bool], None]


class RuleStates:
    """The states as of the last frame of each camera. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on: dict[str, frozenset[str]] = {}  # camera -> rules whose state is on
        self._playing: frozenset[str] = frozenset()  # cameras
        self._listeners: list[Listener] = []

    def set(self, camera: str, active: Mapping[str, bool], *, playing: bool) -> None:
        """The states of all rules of `camera`, and whether it plays, without which they may be others by now.

        Listeners hear of what has changed, in the order of the changes.
        """
        on = frozenset(name for name, state in active.items() if state)
        with self._lock:
            before = self._on.get(camera, frozenset())
            self._on[camera] = on
            for name in sorted(on ^ before):
                for listener in self._listeners:
                    listener(camera, name, name in on)
            if playing != (camera in self._playing):
                self._playing ^= {camera}
                for listener in self._listeners:
                    listener(camera, None, playing)

    def is_on(self, camera: str, rule: str) -> bool:
        """Whether the state of a rule is on; a listener may ask, too, and then learns of the change that it hears of."""
        return rule in self._on.get(camera, frozenset())

    def is_playing(self, camera: str) -> bool:
        """Whether frames of `camera` come; a listener may ask, too."""
        return camera in self._playing

    def listen(self, listener: Listener) -> None:
        """Call `listener` at every change from now on; it must return soon and not change states."""
        with self._lock:
            self._listeners.append(listener)

    def forget(self, listener: Listener) -> None:
        """Call `listener` no more."""
        with self._lock:
            self._listeners.remove(listener)
