"""Events to an MQTT broker, and Home Assistant's discovery.

    PREFIX/status/PROCESS           "online", or "offline" (last will), retained; of each process
    PREFIX/CAMERA/status            "online" while the camera's frames come, else "offline", retained; if it has rules
    PREFIX/CAMERA/events            every event as JSON, quality of service 1
    PREFIX/CAMERA/rules/RULE        "ON" or "OFF", retained, of a rule whose state lasts; of others each event as JSON,
                                    with "event_type" besides
    PREFIX/CAMERA/snapshot          JPEG, retained, where snapshots are asked for
    DISCOVERY/binary_sensor/NODE/RULE/config, DISCOVERY/event/NODE/RULE/config       for Home Assistant, retained

Cameras and rules are in topics by their `slug`. An event counts as delivered once the broker has acknowledged it. A
state does not wait with the events: it is sent when it changes and whenever there is a connection, as it is then.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...event import EventKind
from ...rule_states import RuleStates
from ...rules import Rule
from ..options import MqttOptions
from ..receiver import Undelivered, without_login
from ..spool import SpooledEvent
from .announced import AnnouncedTopics
from .broker import BrokerConnection
from .discovery import Discovery
from .topics import Topics, slug

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessageInfo

_PATIENCE = 3.0  # seconds without a connection after which the attempt has failed
_TICK = 0.02  # seconds between two looks at whether the run has ended
_GOODBYE = 1.0  # seconds for the last message


class MqttReceiver:
    """Events, states and discovery of all cameras on one broker."""

    def __init__(
        self,
        options: MqttOptions,
        cameras: Mapping[str, Mapping[str, Rule]],
        announced: AnnouncedTopics,
        states: RuleStates,
        tell: Callable[[str], None],
    ) -> None:
        """`cameras` are the rules of each camera by their names; `tell` takes notes. `announced` is closed here.

        Raises `MissingExtraError`, `UsageError`.
        """
        self._options = options
        self._announced = announced
        self._rule_states = states
        self._tell = tell
        self._lock = threading.Lock()  # of what follows, and of the order of retained messages
        self._cameras = cameras
        self._topics = Topics(options.prefix, cameras)
        self._ready = threading.Event()  # whether there is a connection, and everything is announced on it
        self._clearing: tuple[MQTTMessageInfo, frozenset[str]] | None = None  # the last of the empty messages
        self._pending: tuple[int, list[MQTTMessageInfo]] | None = None  # the event on its way, and its messages
        digest = hashlib.sha256(f"{without_login(options.url)} {options.prefix}".encode()).hexdigest()[:16]
        self.key = f"mqtt-{digest}"
        number = f"-{announced.number}" if announced.number else ""
        process = options.client_id or f"{socket.gethostname()[:32]}-{announced.digest}{number}".lower()
        self._status = f"{options.prefix}/status/{slug(process)}"
        try:
            self._broker = BrokerConnection(options, (self._status, "offline"), self._announce, self._lost, tell)
        except BaseException:
            announced.close()
            raise
        self.name = self._broker.name
        states.listen(self._on_state)
        self._broker.start()

    def deliver(self, event: SpooledEvent, stopped: Callable[[], bool]) -> None:
        """Publish the event, and wait for the broker's acknowledgements."""
        if self._pending is None or self._pending[0] != event.place:
            self._wait(self._ready.wait, stopped)
            self._pending = event.place, self._publish(event)
        for info in self._pending[1]:
            self._wait(lambda seconds, info=info: _is_acknowledged(info, seconds), stopped)  # type: ignore[misc]
        self._pending = None

    def reconfigure(self, cameras: Mapping[str, Mapping[str, Rule]]) -> None:
        """Announce other rules; those that are gone are taken back."""
        with self._lock:
            self._cameras = cameras
            self._topics = Topics(self._options.prefix, cameras)
        if self._ready.is_set():
            self._announce()

    def close(self) -> None:
        """Say goodbye and disconnect."""
        self._rule_states.forget(self._on_state)
        if self._ready.is_set():
            info = self._broker.publish(self._status, "offline", retain=True)
            with suppress(RuntimeError, ValueError):  # the connection broke just now
                info.wait_for_publish(_GOODBYE)
        self._broker.close()
        with self._lock:
            self._forget_cleared()
        self._announced.close()

    def _wait(self, done: Callable[[float], bool], stopped: Callable[[], bool]) -> None:
        """Return once `done`, which is given the seconds to wait for; raises `Undelivered` if the connection is gone."""
        gone_since = time.monotonic()
        while not done(_TICK):
            if self._ready.is_set():
                gone_since = time.monotonic()
            if stopped() or time.monotonic() - gone_since > _PATIENCE:
                raise Undelivered(self._broker.reason, wait=False, told=True)

    def _publish(self, event: SpooledEvent) -> list[MQTTMessageInfo]:
        """Send all messages of an event but the state of its rule, which may be another one by now."""
        values: dict[str, Any] = json.loads(event.text)
        camera, kind = values["camera"], EventKind(values["kind"])
        with self._lock:
            topics, known = self._topics, camera in self._cameras
        messages: list[tuple[str, str | bytes, bool]] = [(f"{topics.camera(camera)}/events", event.text, False)]
        if not kind.lasting:
            text = json.dumps({"event_type": kind.value, **values}, ensure_ascii=False)
            messages.append((topics.rule(camera, values["rule"]), text, False))
        if self._options.snapshots and known and event.snapshot is not None:
            messages.append((_snapshot_topic(topics, camera), event.snapshot, True))
        return [self._broker.publish(topic, payload, retain=retain) for topic, payload, retain in messages]

    def _on_state(self, camera: str, rule: str | None, on: bool) -> None:  # noqa: FBT001 - a `Listener`
        """A state has changed; without a connection it is announced with the next one."""
        with self._lock:
            if not self._ready.is_set() or not (rules := self._cameras.get(camera, {})):
                return
            if rule is None:
                self._broker.publish(self._topics.status(camera), _status(on), retain=True)
            elif rule in _lasting(rules):
                self._broker.publish(self._topics.rule(camera, rule), _state(on), retain=True)

    # -- in paho's thread --------------------------------------------------------------------------------------------

    def _lost(self) -> None:
        self._ready.clear()

    def _announce(self) -> None:
        """Send what is retained: that this process is there, discovery, and the states; clear what is there no more."""
        with self._lock:
            self._forget_cleared()
            topics, cameras = self._topics, self._cameras
            found: dict[str, str] = {self._status: "online"}
            if self._options.discovery is not None:
                messages = Discovery(self._options.discovery, topics, self._status).messages(cameras)
                found |= {topic: json.dumps(payload, ensure_ascii=False) for topic, payload in messages.items()}
            for camera, rules in cameras.items():
                if rules:
                    found[topics.status(camera)] = _status(self._rule_states.is_playing(camera))
                for name in _lasting(rules):
                    found[topics.rule(camera, name)] = _state(self._rule_states.is_on(camera, name))
            pictures = {_snapshot_topic(topics, camera) for camera in cameras} if self._options.snapshots else set()
            wanted = frozenset(found) | pictures
            self._remember(self._announced.topics | wanted)
            for topic, payload in found.items():
                self._broker.publish(topic, payload, retain=True)
            info = None
            for topic in sorted(self._announced.topics - wanted - self._announced.elsewhere()):
                info = self._broker.publish(topic, "", retain=True)
            self._clearing = None if info is None else (info, wanted)
            if info is None:
                self._remember(wanted)
            self._ready.set()

    def _forget_cleared(self) -> None:
        if self._clearing is not None and self._clearing[0].is_published():
            self._remember(self._clearing[1])
            self._clearing = None

    def _remember(self, topics: frozenset[str]) -> None:
        try:
            self._announced.remember(topics)
        except OSError as error:
            self._tell(f"{self.name}: its topics cannot be remembered ({error}); those of rules that go may stay")


def _lasting(rules: Mapping[str, Rule]) -> list[str]:
    return sorted(name for name, rule in rules.items() if rule.condition.lasting)


def _state(on: bool) -> str:  # noqa: FBT001
    return "ON" if on else "OFF"


def _status(playing: bool) -> str:  # noqa: FBT001
    return "online" if playing else "offline"


def _snapshot_topic(topics: Topics, camera: str) -> str:
    return f"{topics.camera(camera)}/snapshot"


def _is_acknowledged(info: MQTTMessageInfo, seconds: float) -> bool:
    info.wait_for_publish(seconds)
    return info.is_published()
