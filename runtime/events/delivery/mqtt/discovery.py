"""Home Assistant's MQTT discovery: each rule appears there by itself.

A rule whose state lasts is a `binary_sensor`, any other an `event`; see
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, /binary_sensor.mqtt/ and /event.mqtt/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...event import EventKind
from ...rules import Condition, Rule
from .topics import Rules, Topics

_TYPES = {
    Condition.ENTERS: EventKind.ENTERED,
    Condition.LEAVES: EventKind.LEFT,
    Condition.STAYS: EventKind.STAYED,
    Condition.CROSSES: EventKind.CROSSED,
}


@dataclass(frozen=True)
class Discovery:
    """What the discovery of every rule says alike."""

    prefix: str  # of the topics that Home Assistant listens to: "homeassistant"
    topics: Topics
    status: str  # topic that is "online" while the process runs

    def messages(self, cameras: Rules) -> dict[str, dict[str, Any]]:
        """Topic -> payload of every rule; the messages are retained."""
        return dict(self._messages(cameras))

    def _messages(self, cameras: Rules) -> Iterator[tuple[str, dict[str, Any]]]:
        for camera, rules in cameras.items():
            node = self.topics.node(camera)
            for name, rule in rules.items():
                kind = "binary_sensor" if rule.condition.lasting else "event"
                topic = f"{self.prefix}/{kind}/{node}/{self.topics.entity(camera, name)}/config"
                yield topic, self._payload(camera, name, rule)

    def _payload(self, camera: str, name: str, rule: Rule) -> dict[str, Any]:
        node = self.topics.node(camera)
        payload: dict[str, Any] = {
            "name": name,
            "unique_id": f"{node}--{self.topics.entity(camera, name)}",
            "state_topic": self.topics.rule(camera, name),
            "availability": [{"topic": self.status}, {"topic": self.topics.status(camera)}],  # "online", "offline"
            "availability_mode": "all",
            "qos": 1,
            "device": {
                "identifiers": [node],
                "name": camera,
                "manufacturer": "ovs-edge",
                "model": "camera",
                "sw_version": _version(),
            },
            "origin": {"name": "ovs-edge", "sw_version": _version()},
        }
        if rule.condition.lasting:
            return payload | {"payload_on": "ON", "payload_off": "OFF"}
        return payload | {"event_types": [_TYPES[rule.condition].value]}


def _version() -> str:
    try:
        return version("ovs-edge")
    except PackageNotFoundError:
        return "0"
