"""Home Assistant's discovery: its payloads and names, and that it can be switched off."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed; it comes with the extra 'events'")
from support.mosquitto import MISSING, PROGRAM, Broker, retained, until

from ovs_edge.runtime.events.config import parse_rules
from ovs_edge.runtime.events.delivery.dispatcher import EventDispatcher
from ovs_edge.runtime.events.delivery.mqtt.discovery import Discovery
from ovs_edge.runtime.events.delivery.mqtt.topics import Topics, slug, slugs
from ovs_edge.runtime.events.delivery.options import DeliveryConfig, parse_delivery

# https://www.home-assistant.io/integrations/mqtt/#discovery-topic and the pages of binary_sensor.mqtt and event.mqtt
_TOPIC = re.compile(r"homeassistant/(binary_sensor|event)/([a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")
_COMMON = {
    "name": str, "unique_id": str, "state_topic": str, "availability": list, "availability_mode": str,
    "qos": int, "device": dict, "origin": dict,
}  # fmt: skip
_OWN = {"binary_sensor": {"payload_on": str, "payload_off": str}, "event": {"event_types": list}}


def test_discovery_payloads_have_the_documented_form() -> None:
    rules = parse_rules(
        ["person in door for 2s", "count(car in yard) > 3", "no cat in yard", "coverage(water) > 5%",
         "person enters door", "person leaves door", "person stays in door for 1s", "cat crosses a", "猫 in door"]
    )  # fmt: skip
    cameras = {"front door": rules, "Hof": rules}
    found = Discovery("homeassistant", Topics("ovs-edge", cameras), "ovs-edge/status/here").messages(cameras)
    assert len(found) == 2 * len(rules)
    for topic, payload in found.items():
        match = _TOPIC.fullmatch(topic)
        assert match, topic
        known = {**_COMMON, **_OWN[match[1]]}
        again = json.loads(json.dumps(payload))
        assert {key: type(value) for key, value in again.items()} == known
        assert again["device"]["identifiers"] and again["device"]["name"] in ("front door", "Hof")
        camera = again["state_topic"].partition("/rules/")[0]
        assert again["availability"] == [{"topic": "ovs-edge/status/here"}, {"topic": f"{camera}/status"}]
        assert again["origin"]["name"] == "ovs-edge"
        assert not set("+#") & set(again["state_topic"])
    assert len({payload["unique_id"] for payload in found.values()}) == len(found)
    events = [payload["event_types"] for payload in found.values() if "event_types" in payload]
    assert events[:4] == [["entered"], ["left"], ["stayed"], ["crossed"]]


def test_two_names_are_two_topics_and_plain_names_are_themselves() -> None:
    assert [slug(name) for name in ("front door", "front_door", "cam-1", "yard")] == [
        "front_door", "front_door", "cam-1", "yard",
    ]  # fmt: skip
    names = ["a-b", "a_b", "a b", "a  b", "a__b", "A b", "a b!", " a b", "a_b c", "a b_c", "猫", "犬", "-", "_"]
    found = slugs(names)
    assert len(set(found.values())) == len(names)
    assert found == slugs(names[::-1])
    assert (found["a_b"], found["a-b"]) == ("a_b", "a-b")
    assert all(re.fullmatch("[a-z0-9_-]+", short) and "--" not in short for short in found.values())


@pytest.mark.parametrize("names", [["Door", "{Door}"], ["a b", "a_b", "{a b}"], ["Döor", "Door", "{Door}", "{Döor}"]])
def test_a_name_may_be_what_another_one_would_become(names: list[str]) -> None:
    def with_digest(name: str) -> str:
        short = slugs([name, name.lower().replace(" ", "_")])[name]
        assert re.search("_[0-9a-f]{6}$", short)
        return short

    names = [with_digest(name[1:-1]) if name.startswith("{") else name for name in names]
    found = slugs(names)
    assert len(set(found.values())) == len(names)
    assert all(found[name] == name for name in names if slug(name) == name)
    assert found == slugs(names[::-1])
    assert all(re.fullmatch("[a-z0-9_-]+", short) and "--" not in short for short in found.values())


def test_no_two_rules_of_home_assistant_have_one_id() -> None:
    rules = parse_rules(["person in frame", "person enters frame"])
    one, two = rules.values()
    cameras = {"a": {"b c": one, "b_c": two, "b-c": one}, "a b": {"c": one}, "a_b": {"c": one}, "a-b": {"c": two}}
    ids = [
        payload["unique_id"]
        for prefix in ("ovs-edge", "ovs_edge", "ovs-edge/a")
        for payload in Discovery("homeassistant", Topics(prefix, cameras), "s").messages(cameras).values()
    ]
    assert len(set(ids)) == len(ids) == 18


@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_discovery_is_switched_off_and_its_earlier_topics_are_cleared(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "broker")
    rules = {"front door": parse_rules(["person in door for 2s", "person crosses gate"])}

    def config(discovery: object) -> DeliveryConfig:
        mqtt = {"url": f"mqtt://127.0.0.1:{broker.port}", "discovery": discovery}
        found = parse_delivery({"mqtt": mqtt, "spool": {"folder": str(tmp_path / "spool")}}, "zones.toml")
        return replace(found, origin="zones.toml")

    def announced() -> dict[str, int]:
        return dict(Counter(topic.partition("/")[0] for topic in retained(broker.port)))

    on, renamed, off = {"ovs-edge": 3, "homeassistant": 2}, {"ovs-edge": 3, "home": 2}, {"ovs-edge": 3}
    try:
        for discovery, expected in ((True, on), ("home", renamed), (False, off), ("homeassistant", on)):
            sender = EventDispatcher(config(discovery), rules)
            until(lambda expected=expected: announced() == expected)  # type: ignore[misc]
            sender.close()
            assert announced() == expected
        # While it runs, as SIGHUP changes it.
        sender = EventDispatcher(config(True), rules)
        until(lambda: announced() == on)
        assert sender.change(config(False), rules)
        until(lambda: announced() == off)
        sender.close()
    finally:
        broker.kill()
