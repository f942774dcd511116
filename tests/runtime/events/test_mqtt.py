"""Delivery to a real broker: once each and in order, through kills of the broker; discovery as Home Assistant reads it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed; it comes with the extra 'events'")
from support.events import event
from support.mosquitto import MISSING, PROGRAM, Broker, Subscriber, retained, until
from support.moving import prediction

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.events.config import WatchConfig, parse_rules
from ovs_edge.runtime.events.delivery.dispatcher import EventDispatcher
from ovs_edge.runtime.events.delivery.mqtt import broker as broker_module
from ovs_edge.runtime.events.delivery.mqtt.topics import slug
from ovs_edge.runtime.events.delivery.options import DeliveryConfig, MqttOptions, SpoolOptions, parse_delivery
from ovs_edge.runtime.events.event import EventKind
from ovs_edge.runtime.events.watch import EventWatch, WatchState
from ovs_edge.runtime.frame import Frame

needs_broker = pytest.mark.skipif(PROGRAM is None, reason=MISSING)
RULES = {"front door": parse_rules(["person in door for 2s", "person crosses gate"])}
EVENTS = "ovs-edge/front_door/events"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "_RECONNECT", (0.05, 0.2))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path / "broker")
    yield found
    found.kill()


def dispatcher(port: int, folder: Path, told: list[str] | None = None, **options: object) -> EventDispatcher:
    mqtt = MqttOptions(f"mqtt://127.0.0.1:{port}", **options)  # type: ignore[arg-type]
    config = DeliveryConfig(mqtt=mqtt, spool=SpoolOptions(folder=str(folder)))
    return EventDispatcher(config, RULES, (told if told is not None else []).append)


def numbers(subscriber: Subscriber) -> list[int]:
    return [json.loads(payload)["number"] for payload in subscriber.of(EVENTS)]


@needs_broker
def test_events_arrive_once_each_in_order_with_states_and_discovery(broker: Broker, tmp_path: Path) -> None:
    subscriber = Subscriber(broker.port)
    sender = dispatcher(broker.port, tmp_path / "spool", snapshots=True)
    try:
        sender.publish([event(number) for number in range(1, 201)])
        state = "person in door for 2s"
        sender.set_states("front door", {state: True})
        sender.publish([event(201, EventKind.STARTED, state, snapshot=b"jpeg")])
        sender.set_states("front door", {state: False})
        sender.publish([event(202, EventKind.ENDED, state)])
        until(lambda: len(numbers(subscriber)) == 202)
        assert numbers(subscriber) == list(range(1, 203))
        first = json.loads(subscriber.of(EVENTS)[0])
        assert first == event(1).to_dict()
        assert first["time"] == "2026-09-21T14:13:21.000Z"
        topic = f"ovs-edge/front_door/rules/{slug(state)}"
        until(lambda: subscriber.of(topic) == [b"OFF", b"ON", b"OFF"])
        assert subscriber.of("ovs-edge/front_door/status") == [b"offline", b"online"]
        sender.set_states("front door", {state: False}, playing=False)
        until(lambda: subscriber.of("ovs-edge/front_door/status")[-1] == b"offline")
        until(lambda: subscriber.of("ovs-edge/front_door/snapshot") == [b"jpeg"])
        single = [json.loads(text) for text in subscriber.of("ovs-edge/front_door/rules/person_crosses_gate")]
        assert [entry["event_type"] for entry in single] == ["crossed"] * 200
        assert subscriber.statuses() == [b"online"]
        assert sum(topic.startswith("homeassistant/") for topic, _, _ in subscriber.messages) == 2
    finally:
        sender.close()
    until(lambda: subscriber.statuses() == [b"online", b"offline"])
    assert sender.states[0].waiting == 0
    assert sender.states[0].delivered == 202
    subscriber.close()


def kill_under_load(folder: Path, away: float) -> None:
    """Five events a second before, while and after the broker is away for `away` seconds."""
    broker = Broker(folder / "broker", lasting=True)
    subscriber = Subscriber(broker.port)
    told: list[str] = []
    sender = dispatcher(broker.port, folder / "spool", told)
    sent: list[int] = []
    ended = threading.Event()

    def load() -> None:
        while not ended.wait(0.2):
            sent.append(len(sent) + 1)
            sender.publish([event(sent[-1])])

    thread = threading.Thread(target=load)
    thread.start()
    try:
        until(lambda: len(numbers(subscriber)) >= 5)
        broker.kill()
        time.sleep(away)
        before = len(numbers(subscriber))
        assert len(sent) >= before + 2 * away
        broker.start()
        until(lambda: len(numbers(subscriber)) > before + 2 * away, 120)
        ended.set()
        thread.join()
        until(lambda: len(set(numbers(subscriber))) == len(sent), 120)
        # A message whose acknowledgement was lost may come twice: receivers drop an id they have seen.
        found = list(dict.fromkeys(json.loads(payload)["id"] for payload in subscriber.of(EVENTS)))
        assert found == [event(number).id for number in sent]
        assert len(subscriber.of(EVENTS)) <= len(sent) + 1
    finally:
        ended.set()
        thread.join()
        sender.close()
        subscriber.close()
        broker.kill()


@needs_broker
def test_all_events_arrive_after_the_broker_was_killed_under_load(tmp_path: Path) -> None:
    kill_under_load(tmp_path, 2)


@needs_broker
@pytest.mark.nightly
def test_all_events_arrive_after_the_broker_was_away_for_half_a_minute(tmp_path: Path) -> None:
    kill_under_load(tmp_path, 30)


@needs_broker
def test_events_of_a_run_without_a_broker_are_delivered_by_the_next_run(broker: Broker, tmp_path: Path) -> None:
    broker.kill()
    told: list[str] = []
    sender = dispatcher(broker.port, tmp_path / "spool", told)
    sender.publish([event(number) for number in range(1, 6)])
    start = time.monotonic()
    sender.close(drain=0.2)
    assert time.monotonic() - start < 5
    assert [note for note in told if "5 events wait on disk" in note]
    broker.start()
    subscriber = Subscriber(broker.port)
    sender = dispatcher(broker.port, tmp_path / "spool")
    sender.publish([event(6)])
    until(lambda: numbers(subscriber) == [1, 2, 3, 4, 5, 6])
    sender.close()
    subscriber.close()


STATE = "person in door for 2s"
STATE_TOPIC = f"ovs-edge/front_door/rules/{slug(STATE)}"


@needs_broker
def test_a_state_is_that_of_this_run_whatever_events_wait(broker: Broker, tmp_path: Path) -> None:
    broker.kill()
    sender = dispatcher(broker.port, tmp_path / "spool")
    sender.set_states("front door", {STATE: True})
    sender.publish([event(1, EventKind.STARTED, STATE)])
    sender.close(drain=0)
    broker.start()
    subscriber = Subscriber(broker.port)
    sender = dispatcher(broker.port, tmp_path / "spool")
    until(lambda: numbers(subscriber) == [1])
    assert subscriber.of(STATE_TOPIC) == [b"OFF"]
    sender.set_states("front door", {STATE: True})
    sender.set_states("front door", {STATE: True})
    until(lambda: subscriber.of(STATE_TOPIC) == [b"OFF", b"ON"])
    sender.close()
    subscriber.close()


@needs_broker
def test_other_options_announce_the_states_as_they_are(broker: Broker, tmp_path: Path) -> None:
    subscriber = Subscriber(broker.port)
    spool = SpoolOptions(folder=str(tmp_path / "spool"))
    before = DeliveryConfig(mqtt=MqttOptions(f"mqtt://127.0.0.1:{broker.port}"), spool=spool)
    sender = EventDispatcher(before, RULES)
    sender.set_states("front door", {STATE: True})
    until(lambda: subscriber.of(STATE_TOPIC)[-1:] == [b"ON"])
    seen = len(subscriber.of(STATE_TOPIC))
    after = replace(before, mqtt=MqttOptions(f"mqtt://127.0.0.1:{broker.port}", snapshots=True))
    wrong = MqttOptions("mqtts://127.0.0.1", ca_file=str(tmp_path / "missing.pem"))
    with pytest.raises(UsageError, match="ca_file"):
        sender.change(replace(before, mqtt=wrong), RULES)
    assert sender.change(after, RULES)
    until(lambda: len(subscriber.of(STATE_TOPIC)) > seen)
    assert set(subscriber.of(STATE_TOPIC)[seen:]) == {b"ON"}
    assert len({topic for topic in retained(broker.port) if "/status/" in topic}) == 1
    sender.close()
    subscriber.close()


def test_a_camera_tells_its_states_when_they_change() -> None:
    class Publisher:
        snapshots = False

        def __init__(self) -> None:
            self.states: list[tuple[str, dict[str, bool], bool]] = []

        def publish(self, events: object, picture: object = None) -> None: ...

        def set_states(self, camera: str, active: Mapping[str, bool], *, playing: bool) -> None:
            self.states.append((camera, dict(active), playing))

    publisher = Publisher()
    watch = EventWatch(WatchConfig(rules=parse_rules(["person in frame"])), "yard", publisher)
    off, on = ({"person in frame": state} for state in (False, True))

    def deliver(active: dict[str, bool], captured: float) -> None:
        watch.observe(Frame(np.zeros((240, 320, 3), np.uint8), 0, captured, "live", captured), prediction({}))
        watch.state = WatchState(active=active)
        watch.deliver(None)

    watch.lose()  # before there was a frame
    for active in (off, off, on, on):
        deliver(active, time.monotonic())
    on_its_way = time.monotonic()
    for _ in range(2):
        watch.lose()
    deliver(on, on_its_way)
    deliver(on, time.monotonic())
    watch.close()
    watch.lose()
    assert publisher.states == [
        *(("yard", off, True), ("yard", on, True), ("yard", on, False), ("yard", on, True), ("yard", off, False))
    ]


@needs_broker
def test_topics_of_what_is_gone_are_cleared_and_those_of_other_processes_stay(broker: Broker, tmp_path: Path) -> None:
    options = MqttOptions(f"mqtt://127.0.0.1:{broker.port}", snapshots=True)
    rules = parse_rules(["person in frame", "person enters frame"])

    def run(origin: str, cameras: dict[str, list[str]], options: MqttOptions = options) -> EventDispatcher:
        chosen = {camera: {name: rules[name] for name in names} for camera, names in cameras.items()}
        config = DeliveryConfig(mqtt=options, spool=SpoolOptions(folder=str(tmp_path / "spool")), origin=origin)
        return EventDispatcher(config, chosen)

    def topics(*cameras: str) -> set[str]:
        parts = [topic for topic in retained(broker.port) if "/status/" not in topic]
        return {topic for topic in parts if any(f"/{name}/" in topic or f"--{name}/" in topic for name in cameras)}

    first = run("one.toml", {"a": list(rules), "b": list(rules)})
    other = run("two.toml", {"c": list(rules)})
    until(lambda: len(topics("a")) == len(topics("b")) == len(topics("c")) == 4)
    first.publish([event(1, camera="a", rule="person enters frame", snapshot=b"jpeg")])
    until(lambda: len(topics("a")) == 5)
    first.close()
    kept = topics("c")

    # While nothing ran, one camera lost a rule, and the other one was renamed.
    first = run("one.toml", {"a": ["person in frame"], "yard": list(rules)})
    until(lambda: topics("b") == set() and (len(topics("a")), len(topics("yard"))) == (4, 4))
    assert all("enters" not in topic for topic in topics("a"))
    first.reconfigure({"a": {}})
    until(lambda: topics("yard") == set() and topics("a") == {"ovs-edge/a/snapshot"})
    first.close()
    first = run("one.toml", {"a": list(rules)}, replace(options, prefix="home", snapshots=False))
    until(lambda: {topic.split("/")[0] for topic in topics("a")} == {"home", "homeassistant"})
    assert topics("c") == kept
    first.close()
    other.close()
    until(
        lambda: [payload for topic, payload in retained(broker.port).items() if "/status/" in topic] == [b"offline"] * 2
    )


@needs_broker
def test_the_end_of_one_process_leaves_the_cameras_of_another_available(broker: Broker, tmp_path: Path) -> None:
    subscriber = Subscriber(broker.port)
    senders = [dispatcher(broker.port, tmp_path / "spool") for _ in range(2)]
    until(lambda: subscriber.statuses() == [b"online"] * 2)
    senders[0].close()
    until(lambda: b"offline" in subscriber.statuses())
    last = {topic: payload for topic, payload in retained(broker.port).items() if "/status/" in topic}
    assert sorted(last.values()) == [b"offline", b"online"]
    (running,) = [topic for topic, payload in last.items() if payload == b"online"]
    found = [json.loads(payload) for topic, payload in retained(broker.port).items() if topic.endswith("/config")]
    assert {payload["availability"][0]["topic"] for payload in found} == {running}
    senders[1].close()
    subscriber.close()


@needs_broker
def test_users_and_passwords(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("ann:letter day\n")
    made = subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=False, capture_output=True)
    assert made.returncode == 0, made.stderr
    broker = Broker(tmp_path / "broker", "allow_anonymous false", f"password_file {passwords}")
    try:
        subscriber = Subscriber(broker.port, user=("ann", "letter day"))
        told: list[str] = []
        spool = SpoolOptions(folder=str(tmp_path / "spool"))
        for url, password in (
            (f"mqtt://ann@127.0.0.1:{broker.port}", "wrong"),
            (f"mqtt://ann@127.0.0.1:{broker.port}", "letter day"),
        ):
            sender = EventDispatcher(DeliveryConfig(mqtt=MqttOptions(url, password), spool=spool), RULES, told.append)
            sender.publish([event(1)])
            if password == "wrong":
                until(lambda: any("refuses the connection" in note for note in told))
            else:
                until(lambda: numbers(subscriber) == [1, 1])
            sender.close(drain=0.1)
        assert "wrong" not in " ".join(told)
        subscriber.close()
    finally:
        broker.kill()


@needs_broker
def test_the_last_will_says_that_the_run_is_gone(broker: Broker, tmp_path: Path) -> None:
    subscriber = Subscriber(broker.port)
    sender = dispatcher(broker.port, tmp_path / "spool")
    until(lambda: subscriber.statuses() == [b"online"])
    client = next(iter(sender._lanes.values()))._receiver._broker._client  # type: ignore[attr-defined]
    client.socket().shutdown(2)  # as when the process is killed
    until(lambda: b"offline" in subscriber.statuses())
    until(lambda: subscriber.statuses()[-1] == b"online")
    sender.close()
    subscriber.close()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({}, "[mqtt] has no url"),
        ({"url": "http://broker"}, "[mqtt] url is 'http://broker', expected such as mqtt://broker.local:1883"),
        ({"url": "mqtt://broker/topic"}, "expected no path"),
        ({"url": "mqtt://broker", "port": 1}, "there is 'port', expected one of: url, password"),
        ({"url": "mqtt://broker", "prefix": "a/#"}, "[mqtt] prefix is 'a/#'"),
        ({"url": "mqtt://broker", "discovery": ""}, "[mqtt] discovery is '', expected a topic without + # $"),
        ({"url": "mqtt://broker", "prefix": "a\x01b"}, r"[mqtt] prefix is 'a\x01b', expected a topic without"),
        ({"url": "mqtt://broker", "prefix": "ä" * 501}, "; printable, and at most 1000 bytes"),
        ({"url": "mqtt://broker", "client_id": "a\x01"}, r"[mqtt] client_id is 'a\x01', expected at most 65535 bytes"),
        ({"url": "mqtt://broker", "client_id": "a" * 65536}, "[mqtt] client_id is 'aaa"),
        ({"url": "mqtt://broker", "password": "p"}, "its url no user"),
        ({"url": "mqtt://a%0Ab@broker"}, r"[mqtt] the user in url is 'a\nb', expected at most 65535 bytes"),
        ({"url": "mqtt://a@broker", "password": "a" * 65536}, "[mqtt] the password is longer than 65535 bytes"),
        ({"url": "mqtt://broker", "discovery": "+"}, "outer slashes, or false for no discovery"),
        ({"url": "mqtt://broker", "discovery": 0}, "[mqtt] discovery is int, expected str"),
        ({"url": "mqtt://broker", "cert_file": "x"}, "cert_file and key_file go together"),
        ({"url": "mqtt://broker", "password_env": "NOT_SET_ANYWHERE"}, "which is not set"),
        ({"url": "mqtt://broker", "snapshots": "yes"}, "[mqtt] snapshots is str, expected bool"),
    ],
)
def test_options_that_cannot_be_are_refused(entry: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_delivery({"mqtt": entry}, "zones.toml")
    assert said in str(refused.value)
