"""Home Assistant's MQTT discovery: each rule appears there by itself.

A rule whose state lasts is a `binary_sensor`, any other an `event`; see
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery, /binary_sensor.mqtt/ and /event.mqtt/.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..event import EventKind
from ..rules import Condition, Rule
from .topics import slug

_TYPES = {
    Condition.ENTERS: EventKind.ENTERED,
    Condition.LEAVES: EventKind.LEFT,
    Condition.STAYS: EventKind.STAYED,
    Condition.CROSSES: EventKind.CROSSED,
}


def discovery_messages(
    discovery: str, prefix: str, cameras: Mapping[str, Mapping[str, Rule]]
) -> dict[str, dict[str, Any]]:
    """Topic -> payload of every rule; the messages are retained."""
    found = {}
    for camera, rules in cameras.items():
        node = slug(f"{prefix}_{camera}") if slug(prefix) else slug(camera)
        for name, rule in rules.items():
            kind = "binary_sensor" if rule.condition.lasting else "event"
            found[f"{discovery}/{kind}/{node}/{slug(name)}/config"] = _payload(prefix, camera, node, name, rule)
    return found


def rule_topic(prefix: str, camera: str, rule: str) -> str:
    """Topic of a rule's state, or of its events."""
    return f"{prefix}/{slug(camera)}/rules/{slug(rule)}"


def _payload(prefix: str, camera: str, node: str, name: str, rule: Rule) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "name": name,
        "unique_id": f"{node}_{slug(name)}",
        "state_topic": rule_topic(prefix, camera, name),
        "availability_topic": f"{prefix}/status",
        "payload_available": "online",
        "payload_not_available": "offline",
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
        payload |= {"payload_on": "ON", "payload_off": "OFF"}
    else:
        payload |= {"event_types": [_TYPES[rule.condition].value]}
    return payload


def _version() -> str:
    try:
        return version("ovs-edge")
    except PackageNotFoundError:
        return "0"
