"""Ways of delivery: whatever a receiver or an event does, the others get their events, and each can be ended."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.events import event
from support.hooks import SlowHook
from support.mosquitto import until

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.events.delivery import lane as module
from ovs_edge.runtime.events.delivery.dispatcher import EventDispatcher
from ovs_edge.runtime.events.delivery.json_lines import JsonLinesReceiver
from ovs_edge.runtime.events.delivery.lane import Lane
from ovs_edge.runtime.events.delivery.options import DeliveryConfig, JsonLinesOptions, parse_delivery
from ovs_edge.runtime.events.delivery.receiver import Undelivered
from ovs_edge.runtime.events.delivery.spool import SpooledEvent

PICTURE = np.full((64, 64, 3), 90, np.uint8)


def config(folder: Path, **tables: Any) -> DeliveryConfig:
    return parse_delivery({**tables, "spool": {"folder": str(folder / "spool")}}, "test")


def lines(path: Path) -> list[int]:
    """Numbers of the events in a file."""
    return [json.loads(line)["number"] for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again soon."""
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.001)


@pytest.fixture
def hook() -> Iterator[SlowHook]:
    with SlowHook(b"HTTP/1.1 200 OK\r\nX-A: ", b"a") as found:
        yield found


class Scripted(JsonLinesReceiver):
    """Does what `script` says with each event, then what it should."""

    def __init__(self, path: Path, script: Callable[[int], None]) -> None:
        super().__init__(JsonLinesOptions(str(path)))
        self._script = script

    def deliver(self, event: SpooledEvent, stopped: Callable[[], bool]) -> None:
        self._script(json.loads(event.text)["number"])
        super().deliver(event, stopped)


def test_an_unreadable_event_is_dropped_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tables = config(tmp_path, json_lines={"path": str(path)}, webhook={"url": "http://127.0.0.1:9/"})
    EventDispatcher(tables).close(drain=0)
    with closing(sqlite3.connect(next((tmp_path / "spool").glob("lines-*.sqlite3")), isolation_level=None)) as base:
        odd = json.dumps({**event(2).to_dict(), "id": "a\nb"})
        for bad in ("not json", "[" * 50_000, '{"id": "a"}', b"\xff\x00", 7, odd):
            base.execute("INSERT INTO events(text, snapshot) VALUES (?, 'picture')", (bad,))
    told: list[str] = []
    sender = EventDispatcher(tables, tell=told.append)
    sender.publish([event(1)])
    until(lambda: lines(path) == [1])
    assert [state.dropped for state in sender.states] == [6, 0]
    assert len(sender.states) == 2
    sender.close(drain=0)
    assert told.count(f"events in {path}: an event is dropped: what waited on disk is no event") == 6


def test_an_event_that_fails_strangely_is_dropped_after_some_attempts(tmp_path: Path) -> None:
    told: list[str] = []
    attempts: list[int] = []

    def script(number: int) -> None:
        attempts.append(number)
        if number == 2:
            raise KeyError("a fault")

    lane = Lane(Scripted(tmp_path / "lines", script), tmp_path, (9, 9000), told.append, snapshots=False)
    for number in (1, 2, 3):
        lane.append(json.dumps(event(number).to_dict()), None)
    until(lambda: lines(tmp_path / "lines") == [1, 3])
    lane.stop(time.monotonic())
    lane.join(5)
    assert attempts == [1, 2, 2, 2, 2, 2, 3]
    assert f"events in {tmp_path / 'lines'}: an event is dropped: KeyError: 'a fault'" in told


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path) -> None:
    told: list[str] = []
    away = threading.Event()

    def script(number: int) -> None:
        if not away.is_set():
            raise Undelivered("it is away")

    lane = Lane(Scripted(tmp_path / "lines", script), tmp_path, (99, 10**6), told.append, snapshots=True)
    base = lane._spool._base
    assert base is not None
    base.execute("PRAGMA max_page_count=5")
    for number in range(1, 11):
        lane.append(json.dumps(event(number).to_dict()), b"p" * 3000)
    assert lane.state.waiting == 10
    base.execute("PRAGMA max_page_count=1000000")
    away.set()
    until(lambda: lines(tmp_path / "lines") == list(range(1, 11)))
    lane._spool._retry_at = 0
    lane.append(json.dumps(event(11).to_dict()), None)
    until(lambda: lane.state.delivered == 11)
    lane.stop(time.monotonic())
    lane.join(5)
    name = f"events in {tmp_path / 'lines'}"
    assert (
        f"{name}: events cannot be kept on disk (database or disk is full) and wait in memory; free some space" in told
    )
    assert f"{name}: events are on disk again" in told
    assert lane.state == module.DeliveryState(name, 11, 0, 0, None)


def test_the_end_does_not_wait_for_a_receiver_that_hangs(tmp_path: Path) -> None:
    told: list[str] = []
    begun, end = threading.Event(), threading.Event()

    def script(number: int) -> None:
        begun.set()
        end.wait(20)

    lane = Lane(Scripted(tmp_path / "lines", script), tmp_path, (9, 9000), told.append, snapshots=False)
    lane.append(json.dumps(event(1).to_dict()), None)
    assert begun.wait(10)
    lane.stop(time.monotonic())
    lane.join(0.05)
    end.set()
    assert told == [f"events in {tmp_path / 'lines'}: it does not come to an end and is left behind; 1 events wait"]
    lane.join(10)


@pytest.mark.parametrize(
    ("before", "again"),
    [(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (b"", b"")],
)
def test_a_webhook_that_answers_for_ever_neither_holds_the_end_nor_exceeds_its_time(
    tmp_path: Path, before: bytes, again: bytes
) -> None:
    told: list[str] = []
    with SlowHook(before, again) as hook:
        sender = EventDispatcher(config(tmp_path, webhook={"url": hook.url, "timeout": 0.3}), tell=told.append)
        sender.publish([event(1)])
        until(lambda: hook.requests >= 2)
        assert told == [f"webhook {hook.url}: no answer within 0.3 s; events wait on disk"]
        sender.close(drain=0)
        count = hook.requests
        patient = EventDispatcher(config(tmp_path, webhook={"url": hook.url, "timeout": 600}), tell=told.append)
        until(lambda: hook.requests > count)
        start = time.monotonic()
        patient.close(drain=0.1)
        assert time.monotonic() - start < 2
    assert told[1:] == [f"webhook {hook.url}: 1 events wait on disk; the next run delivers them"] * 2


def test_an_answer_counts_before_its_body_has_come(tmp_path: Path) -> None:
    with SlowHook(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b"a") as hook:
        sender = EventDispatcher(config(tmp_path, webhook={"url": hook.url, "timeout": 0.2}))
        sender.publish([event(1)])
        until(lambda: sender.states[0].delivered == 1)
        sender.close(drain=0)
        assert hook.requests == 1


def test_a_way_is_replaced_while_its_receiver_hangs_and_nobody_waits(hook: SlowHook, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    told: list[str] = []

    def tables(url: str) -> DeliveryConfig:
        return config(tmp_path, json_lines={"path": str(path)}, webhook={"url": url, "timeout": 600})

    sender = EventDispatcher(tables(hook.url), tell=told.append)
    sender.publish([event(1)])
    until(lambda: hook.requests == 1)
    longest, number, changed = 0.0, 1, threading.Event()

    def change() -> None:
        assert sender.change(tables(hook.url + "/other"), {})
        changed.set()

    thread = threading.Thread(target=change)
    thread.start()
    while not changed.is_set() or number < 5:
        start, number = time.monotonic(), number + 1
        sender.publish([event(number)])
        assert len(sender.states) == 2
        longest = max(longest, time.monotonic() - start)
        time.sleep(0.005)
    thread.join()
    until(lambda: lines(path) == list(range(1, number + 1)))
    webhook = sender.states[1].waiting
    sender.close(drain=0)
    assert longest < 0.5
    assert webhook == number - 1  # the first one is for the address of before
    assert told[0] == f"webhook {hook.url}: 1 events wait on disk; a run with the configuration of before delivers them"


def test_no_event_is_lost_or_overtaken_between_ways_that_replace_one_another(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    tables = [config(tmp_path, json_lines={"path": str(path)}) for path in paths]
    sender = EventDispatcher(tables[0], tell=lambda text: None)
    ended = threading.Event()
    counts = [0, 0]

    def publish(camera: int) -> None:
        while not ended.is_set():
            counts[camera] += 1
            sender.publish([event(counts[camera], id=f"{camera}-{counts[camera]}")])
            time.sleep(0.001)  # fewer events than the queue holds

    threads = [threading.Thread(target=publish, args=(camera,)) for camera in (0, 1)]
    for thread in threads:
        thread.start()
    for number in range(1, 9):
        assert sender.change(tables[number % 2], {})
    ended.set()
    for thread in threads:
        thread.join()
    sender.close(drain=20)
    for table in tables:  # what waits for either
        EventDispatcher(table).close(drain=20)
    written = [[json.loads(line)["id"] for line in path.read_text().splitlines()] for path in paths]
    for ids in written:
        for camera in "01":
            of_camera = [int(number) for name, _, number in (found.partition("-") for found in ids) if name == camera]
            assert of_camera == sorted(of_camera)
    found = [number for ids in written for number in ids]
    assert sorted(found) == sorted(f"{camera}-{number}" for camera in (0, 1) for number in range(1, counts[camera] + 1))


def test_ways_that_cannot_be_changed_are_as_before(hook: SlowHook, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tables = {"json_lines": {"path": str(path)}}
    told: list[str] = []
    sender = EventDispatcher(config(tmp_path, **tables, webhook={"url": hook.url}), tell=told.append)
    sender.publish([event(1)])
    other = config(tmp_path, **tables, webhook={"url": hook.url, "timeout": 5}, command={"run": "no-such-program"})
    with pytest.raises(UsageError, match="there is no program 'no-such-program'"):
        sender.change(other, {})
    sender.publish([event(2)])
    until(lambda: lines(path) == [1, 2])
    assert [state.waiting for state in sender.states] == [0, 2]
    assert not sender.change(config(tmp_path, **tables, webhook={"url": hook.url}), {})
    assert sender.change(config(tmp_path, webhook={"url": hook.url}), {})
    sender.publish([event(3)])
    assert [(state.name, state.waiting) for state in sender.states] == [(f"webhook {hook.url}", 3)]
    sender.close(drain=0)
    assert (lines(path), told) == (
        [1, 2],
        [f"webhook {hook.url}: 3 events wait on disk; the next run delivers them"],
    )


def test_pictures_wait_for_those_alone_who_send_them(tmp_path: Path) -> None:
    away = "http://127.0.0.1:9/"
    tables = {"webhook": {"url": away, "snapshots": True}, "command": {"run": "sleep 60"}}
    sender = EventDispatcher(config(tmp_path, **tables), tell=lambda text: None)
    sender.publish([event(1), event(2)], PICTURE)
    sender.close(drain=0)
    sizes = {}
    for path in (tmp_path / "spool").glob("*.sqlite3"):
        with closing(sqlite3.connect(path)) as base:
            (sizes[path.name.partition("-")[0]],) = base.execute("SELECT count(snapshot) FROM events").fetchone()
    assert sizes == {"webhook": 2, "command": 0}
