"""Frames in, events out: entries, exits, dwell times, crossings, states."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from support.moving import Box, prediction

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.events.config import parse_watch
from ovs_edge.runtime.events.engine import EventEngine
from ovs_edge.runtime.events.event import Event
from ovs_edge.runtime.events.watch import EventWatch
from ovs_edge.runtime.frame import Frame

RATE = 25.0
# A zone over the middle half of the width, all of the height, and a line down the middle, top to bottom.
PLACES: dict[str, Any] = {
    "zones": {"yard": {"points": [[0.25, 0], [0.75, 0], [0.75, 1], [0.25, 1]]}},
    "lines": {"gate": {"points": [[0.5, 0], [0.5, 1]]}},
}


def play(rules: list[str], frames: list[dict[str, list[Box]]], start: float = 0.0) -> list[Event]:
    """Events of a clip."""
    engine = EventEngine(parse_watch({**PLACES, "rules": rules}, "test"), "front")
    events: list[Event] = []
    for index, boxes in enumerate(frames):
        seen = engine.update(start + index / RATE, prediction(boxes), now=1000 + index / RATE)
        events += seen.events
    return events


def walk(first: int, last: int, step: int = 4) -> list[dict[str, list[Box]]]:
    """A person whose middle goes from x = first to last, of 320."""
    return [{"person": [(x - 10, 100, x + 10, 160)]} for x in range(first, last, step if last > first else -step)]


def test_one_who_walks_through_enters_crosses_and_leaves() -> None:
    rules = ["person enters yard", "person leaves yard", "person crosses gate", "car enters yard"]
    events = play(rules, walk(20, 300))
    assert [(event.kind.value, event.region, event.place) for event in events] == [
        ("entered", 1, "yard"),
        ("crossed", 1, "gate"),
        ("left", 1, "yard"),
    ]
    entered, crossed, left = events
    # x = 20 + 4 i: inside from x >= 80 on, that is frame 15, up to x = 240, frame 55.
    assert entered.seconds == pytest.approx(15 / RATE, abs=1 / RATE)
    assert left.seconds == pytest.approx(56 / RATE, abs=1 / RATE)
    assert left.value == pytest.approx(41 / RATE, abs=1 / RATE)
    assert entered.time == pytest.approx(1000 + entered.seconds)
    # A line from top to bottom: its right side, as somebody sees it who goes along it, is the picture's left one.
    assert crossed.direction == "left"
    assert [event.number for event in events] == [1, 2, 3]
    assert len({event.id for event in events}) == 3
    assert all(event.camera == "front" for event in events)


def test_the_way_back_crosses_in_the_other_direction() -> None:
    assert [event.direction for event in play(["person crosses gate"], walk(300, 20))] == ["right"]
    assert play(["person crosses gate to left"], walk(300, 20)) == []


def test_a_state_starts_after_its_time_and_ends() -> None:
    stand = [{"person": [(150, 100, 170, 160)]}] * 75
    events = play(["person in yard for 1s", "no person in yard"], walk(20, 160) + stand + walk(160, 300) + [{}] * 30)
    kinds = [(event.kind.value, event.rule) for event in events]
    assert kinds == [
        ("started", "no person in yard"),
        ("ended", "no person in yard"),
        ("started", "person in yard for 1s"),
        ("ended", "person in yard for 1s"),
        ("started", "no person in yard"),
    ]


def test_counts_and_coverage_with_hysteresis() -> None:
    cars = [(90, 10, 120, 40), (90, 60, 120, 90), (90, 110, 120, 140), (90, 160, 120, 190)]
    clip = [{"car": cars[:number]} for number in (2, 3, 4, 3, 2, 1) for _ in range(40)]
    counts = play(["count(car in yard) > 3 until < 2"], clip)
    assert [(event.kind.value, event.value) for event in counts] == [("started", 4), ("ended", 1)]
    # The zone has 160 x 240 pixels; a car covers 900 of them: 2.34 %.
    shares = play(["coverage(car in yard) > 5% until < 3%"], clip)
    assert [event.kind.value for event in shares] == ["started", "ended"]
    assert shares[0].value == pytest.approx(3 * 900 / 384, abs=0.2)
    assert shares[1].value == pytest.approx(1 * 900 / 384, abs=0.2)


def test_staying_is_told_once_for_each_visit() -> None:
    stand = [{"person": [(150, 100, 170, 160)]}] * 75
    away = [{"person": [(20, 100, 40, 160)]}] * 20
    clip = walk(20, 160) + stand + walk(160, 28) + away + walk(28, 160) + stand
    events = play(["person stays in yard for 2s"], clip)
    assert [(event.kind.value, event.region) for event in events] == [("stayed", 1), ("stayed", 1)]
    assert all(event.value == pytest.approx(2.0, abs=1 / RATE) for event in events)


def test_a_cooldown_holds_back_further_events() -> None:
    there_and_back = walk(20, 300) + walk(300, 20)
    assert len(play(["person crosses gate"], there_and_back * 3)) == 6
    assert len(play(["person crosses gate cooldown 1h"], there_and_back * 3)) == 1


def test_one_who_vanishes_in_a_zone_has_left_when_last_seen() -> None:
    events = play(["person leaves yard"], walk(20, 160) + [{}] * 40)
    (left,) = events
    assert left.seconds == pytest.approx(34 / RATE, abs=1 / RATE)


def test_other_rules_from_the_next_frame_on() -> None:
    engine = EventEngine(parse_watch({**PLACES, "rules": ["person in yard"]}, "test"))
    standing = prediction({"person": [(150, 100, 170, 160)]})
    first = [event for index in range(10) for event in engine.update(index / RATE, standing).events]
    assert [event.kind.value for event in first] == ["started"]
    engine.reconfigure(parse_watch({**PLACES, "rules": ["person in yard", "count(person in yard) >= 1"]}, "test"))
    second = [event for index in range(10, 20) for event in engine.update(index / RATE, standing).events]
    assert [(event.rule, event.kind.value) for event in second] == [("count(person in yard) >= 1", "started")]


def test_a_rule_for_a_zone_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no zone 'attic', expected one of: frame, yard"):
        parse_watch({**PLACES, "rules": ["person in attic"]}, "zones.toml")
    with pytest.raises(UsageError, match="there is no line 'yard', expected one of: gate"):
        parse_watch({**PLACES, "rules": ["person crosses yard"]}, "zones.toml")


def test_classes_that_come_later_are_watched_for_then() -> None:
    engine = EventEngine(parse_watch({**PLACES, "rules": ["Traffic  Light in frame"]}, "test"))
    for index in range(10):
        assert not engine.update(index / RATE, prediction({"person": [(150, 100, 170, 160)]})).events
    new = prediction({"traffic light": [(150, 100, 170, 160)]}, classes=("traffic light",))
    events = [event for index in range(10, 20) for event in engine.update(index / RATE, new).events]
    assert [event.kind.value for event in events] == ["started"]


def test_a_state_ends_with_its_rule() -> None:
    engine = EventEngine(parse_watch({"rules": {"a": "person in frame", "b": "person in frame"}}, "test"))
    standing = prediction({"person": [(150, 100, 170, 160)]})

    def told(first: int, last: int) -> list[tuple[str, str, float, float | None]]:
        frames = range(first, last)
        events = [event for index in frames for event in engine.update(index / 10, standing, 1000 + index / 10).events]
        assert all(event.time == pytest.approx(1000 + event.seconds) for event in events)
        return [(event.rule, event.kind.value, event.seconds, event.value) for event in events]

    assert told(0, 10) == [("a", "started", 0.2, 1), ("b", "started", 0.2, 1)]
    engine.reconfigure(parse_watch({"rules": {"b": "person in frame for 500ms"}}, "test"))
    assert told(10, 20) == [("a", "ended", 1.0, None), ("b", "ended", 1.0, None), ("b", "started", 1.5, 1)]
    # Of another source under the same name, nothing is known yet: no region is the same, and states wait.
    assert engine.reopen(engine.config) == ()
    seen = engine.update(2.0, standing)
    assert seen.prediction.tracks == ()
    assert seen.active == {"b": True}
    assert told(21, 30) == []
    (ended,) = engine.reopen(parse_watch({"rules": ["car in frame"]}, "test"))
    assert (ended.rule, ended.kind.value, ended.seconds, ended.value) == ("b", "ended", 2.9, None)
    assert engine.end() == ()


def test_states_end_when_nobody_watches_any_more() -> None:
    published: list[Event] = []
    states: list[dict[str, bool]] = []

    class Collector:
        snapshots = False

        def publish(self, events: Iterable[Event], picture: object = None) -> None:
            published.extend(events)

        def set_states(self, camera: str, active: Mapping[str, bool], *, playing: bool) -> None:
            states.append(dict(active))

    def watched(before: EventWatch | None, *rules: str) -> EventWatch:
        watch = EventWatch(parse_watch({"rules": list(rules)}, "test"), "yard", Collector())
        if before is not None:
            watch.succeed(before)
        for _ in range(10):
            frame = next(frames)
            standing = prediction({"person": [(150, 100, 170, 160)]})
            watch.observe(Frame(np.zeros((240, 320, 3), np.uint8), frame, frame / 10, "frame"), standing)
            watch.deliver(None)
        return watch

    frames = itertools.count()
    rules = "person in frame", "count(person) >= 1"
    first = watched(None, *rules)
    second = watched(first, rules[0])
    third = watched(second, rules[0])
    assert third.state.total == 3
    unused = EventWatch(parse_watch({"rules": list(rules)}, "test"), "yard", Collector())
    unused.close()  # the camera of this name goes on
    for watch in (first, third, third):
        watch.close()
    assert [(event.rule, event.kind.value, event.number) for event in published] == [
        *((rule, "started", number) for number, rule in enumerate(rules, 1)),
        (rules[1], "ended", 3),
        (rules[0], "ended", 4),
    ]
    assert len({event.id for event in published}) == 4
    assert states == [dict.fromkeys(rules, False), dict.fromkeys(rules, True), {rules[0]: True}, {rules[0]: False}]


@pytest.mark.parametrize("first", [0.0, 50.0])
def test_after_time_restarts_a_zone_is_judged_as_soon_as_ever(first: float) -> None:
    table = {"zones": {"yard": {"points": [[0, 0], [1, 0], [1, 1], [0, 1]]}}, "rules": ["person in yard"]}
    engine = EventEngine(parse_watch(table, "test"))
    there = prediction({"person": [(100, 100, 140, 160)]})
    for frame in range(10):
        engine.update(first + frame / 10, prediction({}))
    events = [event for frame in range(10) for event in engine.update(frame / 10, there).events]
    assert [event.kind.value for event in events] == ["started"]


def test_times_in_which_the_source_was_lost_do_not_count() -> None:
    engine = EventEngine(parse_watch({"rules": ["no person in frame for 30s"]}, "test"))
    for outage in range(8):
        engine.lose()
        for frame in range(20):
            assert engine.update(22.0 * outage + frame / 10, prediction({})).events == ()
