"""Rules are judged by what was seen: not before it could be, nor by a time without frames, nor for a class not asked for."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.moving import Box, prediction
from support.standing import ORDER, Sight, expected

from ovs_edge.bundle.vocabulary import parse_classes
from ovs_edge.runtime.events.config import parse_rules, parse_watch
from ovs_edge.runtime.events.engine import EventEngine
from ovs_edge.runtime.events.event import Event
from ovs_edge.runtime.events.evidence import waiting_rules

YARD = {"yard": {"points": [[0.25, 0], [0.75, 0], [0.75, 1], [0.25, 1]]}}
INSIDE: Box = (150, 100, 170, 160)
OUTSIDE: Box = (20, 100, 40, 160)
TENTHS = [index / 10 for index in range(50)]  # five seconds


def engine(*rules: str, zones: dict[str, Any] | None = None) -> EventEngine:
    return EventEngine(parse_watch({"zones": YARD if zones is None else zones, "rules": list(rules)}, "test"))


def play(
    seen_by: EventEngine, times: list[float], *boxes: Box, classes: tuple[str, ...] = ("person", "car")
) -> list[Event]:
    """The events of frames in which there are people at `boxes`."""
    seen = prediction({"person": boxes} if boxes else {}, classes)
    return [event for time in times for event in seen_by.update(time, seen, now=1000 + time).events]


def told(events: list[Event]) -> list[tuple[str, str, float]]:
    return [(event.rule, event.kind.value, round(event.seconds, 2)) for event in events]


def after(start: float) -> list[float]:
    return [start + time for time in TENTHS]


# -- the first frames ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule", ["no person in yard", "count(person in yard) < 1", "count(person) = 0", "no person in frame"]
)
def test_nothing_is_judged_before_anything_could_have_been_counted(rule: str) -> None:
    assert play(engine(rule), TENTHS, INSIDE) == []
    # Of an empty picture, it is told when the third frame, with which ids begin, is 0.2 s ago.
    (event,) = play(engine(rule), TENTHS)
    assert event.kind.value == "started"
    assert event.seconds == pytest.approx(0.2 if "yard" not in rule else 0.4)


def test_a_state_of_a_thing_that_is_there_starts_when_it_is_counted() -> None:
    events = play(engine("person in frame", "person in yard"), TENTHS, INSIDE)
    assert told(events) == [("person in frame", "started", 0.2), ("person in yard", "started", 0.4)]
    assert '"value": 1,' in json.dumps(events[0].to_dict())  # a number of regions is an integer


def test_coverage_needs_no_ids() -> None:
    assert told(play(engine("coverage(person in yard) < 50%"), TENTHS, INSIDE)) == [
        ("coverage(person in yard) < 50%", "started", 0.0)
    ]


def test_a_zone_that_is_drawn_while_somebody_stands_in_it_was_never_empty() -> None:
    rules = ["no person in door", "person in door"]
    watch = engine(*rules, zones={"door": {"points": [[0, 0], [0.1, 0], [0.1, 0.1]]}})
    assert told(play(watch, TENTHS, INSIDE)) == [(rules[0], "started", 0.4)]
    watch.reconfigure(parse_watch({"zones": {"door": YARD["yard"]}, "rules": rules}, "test"))
    assert told(play(watch, after(5.0), INSIDE)) == [(rules[0], "ended", 5.2), (rules[1], "started", 5.2)]


# -- classes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["no zebra in yard for 1s", "count(zebra) < 1 for 1s", "coverage(zebra) < 5% for 1s"])
def test_a_rule_waits_for_its_class_and_ends_with_it(rule: str) -> None:
    watch, asked = engine(rule), ("person", "Zebra")
    rule = next(iter(watch.config.rules))
    assert play(watch, TENTHS) == []
    began = {"no": 6.4, "count": 6.2, "coverage": 6.0}[rule.split("(")[0].split()[0]]
    assert told(play(watch, after(5.0), classes=asked)) == [(rule, "started", began)]
    (ended,) = play(watch, after(10.0), INSIDE)
    assert (ended.kind.value, ended.seconds, ended.value) == ("ended", 10.0, None)
    assert play(watch, after(15.0)) == []
    assert not watch.update(20.0, prediction({})).active[rule]


def test_rules_whose_class_is_not_asked_for_are_told() -> None:
    texts = ["persn in frame", "van enters frame", "no Zebra in frame", "CAR in frame", "traffic light in frame"]
    texts += [f"unicorn in frame for {number}s" for number in range(1, 6)]
    texts += [unicodedata.normalize("NFD", "Fußgänger in frame")]
    classes = parse_classes("person:0.8,car|van,Traffic Light,Fußgänger", 80)
    assert waiting_rules(parse_rules(texts), classes) == [
        "rule 'persn in frame': no class 'persn' is asked for; did you mean 'person'?",
        "rule 'van enters frame': 'van' is another name of the class 'car'; write 'car' in rules",
        "rule 'no Zebra in frame': nothing is judged until the class 'Zebra' is asked for",
        (
            "rules 'unicorn in frame for 1s', 'unicorn in frame for 2s', 'unicorn in frame for 3s' and 2 more: "
            "nothing is judged until the class 'unicorn' is asked for"
        ),
    ]


def test_names_in_another_form_of_unicode_are_the_same() -> None:
    watch = engine(unicodedata.normalize("NFD", "Fußgänger in yard"))
    seen = prediction({"fußgänger": [INSIDE]}, ("fußgänger",))
    assert [event.kind.value for time in TENTHS for event in watch.update(time, seen).events] == ["started"]


# -- times without frames --------------------------------------------------------------------------------------------


def test_a_camera_that_was_away_saw_nothing() -> None:
    watch = engine("person in yard for 10s gap 30s", "person stays in yard for 10s", "person in yard")
    assert told(play(watch, TENTHS, INSIDE)) == [("person in yard", "started", 0.4)]
    assert play(watch, after(300.0), INSIDE) == []  # on before and after: neither ended nor started
    found = told(play(watch, after(305.0) + after(310.0), INSIDE))
    assert found == [
        ("person stays in yard for 10s", "stayed", 310.2),
        ("person in yard for 10s gap 30s", "started", 310.4),
    ]


def test_a_time_without_frames_that_is_a_break_at_most_is_none() -> None:
    """Even if the condition failed all the while, its break would not be longer than the rule allows."""
    rule = "person in yard for 10s gap 30s"
    watch = engine(rule)
    assert play(watch, TENTHS, INSIDE) == []
    assert told(play(watch, after(20.0), INSIDE)) == [(rule, "started", 20.4)]


def test_regions_are_given_up_and_their_stays_end_when_they_were_last_seen() -> None:
    watch = engine("person enters yard", "person leaves yard")
    assert [event.region for event in play(watch, TENTHS, INSIDE)] == [1]
    left, entered = play(watch, after(300.0), INSIDE)
    assert (left.kind.value, left.region, left.seconds, left.value) == ("left", 1, 4.9, pytest.approx(4.7))
    assert left.time == pytest.approx(1004.9)
    assert (entered.kind.value, entered.region, entered.seconds) == ("entered", 2, 300.2)


def test_nobody_crosses_a_line_while_the_camera_is_away() -> None:
    lines = {"gate": {"points": [[0.3, 0], [0.3, 1]]}}
    watch = EventEngine(parse_watch({"lines": lines, "rules": ["person crosses gate"]}, "test"))
    assert play(watch, TENTHS, OUTSIDE) + play(watch, after(300.0), INSIDE) == []


def test_an_empty_zone_is_not_known_to_have_stayed_so() -> None:
    watch = engine("no person in yard for 5s", "no person in yard for 60s")
    assert play(watch, TENTHS) + play(watch, after(300.0), INSIDE) == []


def test_a_state_is_judged_again_after_the_camera_was_away() -> None:
    watch = engine("no person in yard")
    assert told(play(watch, TENTHS)) == [("no person in yard", "started", 0.4)]
    assert watch.update(300.0, prediction({"person": [INSIDE]})).active == {"no person in yard": True}
    assert told(play(watch, after(300.1), INSIDE)) == [("no person in yard", "ended", 300.4)]


def test_frames_of_another_size_are_a_break_too() -> None:
    watch = engine("no person in yard", "person in yard")
    assert told(play(watch, TENTHS, INSIDE)) == [("person in yard", "started", 0.4)]
    large = prediction({"person": [(300, 200, 340, 320)]}, size=(480, 512))
    assert [event for time in TENTHS for event in watch.update(5 + time, large).events] == []


@pytest.mark.parametrize("step", [0.2, 0.5, 5.0, 60.0])
def test_slow_cameras_are_not_away_between_their_frames(step: float) -> None:
    watch = engine("person in yard for 30s", "person stays in yard for 30s")
    times = [index * step for index in range(round(40 / step) + 10)]
    assert sorted(event.kind.value for event in play(watch, times, INSIDE)) == ["started", "stayed"]


def test_slow_key_frames_are_no_outages() -> None:
    """The network takes two seconds, the frames between are quick."""
    times, now = [], 0.0
    for index in range(200):
        times.append(now)
        now += 2.0 if index % 10 == 9 else 0.04
    assert [event.kind.value for event in play(engine("person stays in yard for 10s"), times, INSIDE)] == ["stayed"]


# -- a recording that is played again --------------------------------------------------------------------------------


def test_a_recording_that_starts_again_is_no_evidence_either() -> None:
    watch = engine("no person in yard for 60s", "person in yard for 60s gap 5s", "no person in yard")
    assert told(play(watch, TENTHS)) == [("no person in yard", "started", 0.4)]
    assert play(watch, TENTHS) == []
    assert told(play(watch, TENTHS, INSIDE)) == [("no person in yard", "ended", 0.4)]
    assert play(watch, TENTHS, INSIDE) == []


# -- events that are told late ---------------------------------------------------------------------------------------


def test_one_who_vanished_before_another_left_is_told_too() -> None:
    """It is given up after the other one's leaving was told, though it left before."""
    watch = engine("person leaves yard")
    assert play(watch, TENTHS, INSIDE, (200, 20, 220, 80)) == []
    events = play(watch, after(5.0)[:3], (200, 20, 220, 80))
    events += play(watch, after(5.3), (235, 20, 255, 80))  # its foot is outside
    assert [(event.region, round(event.seconds, 1)) for event in events] == [(1, 5.3), (2, 4.9)]


def test_a_changed_rule_of_the_same_name_tells_of_a_stay_that_goes_on() -> None:
    zones = {"zones": YARD}
    watch = EventEngine(parse_watch({**zones, "rules": {"long": "person stays in yard for 1s"}}, "test"))
    assert len(play(watch, TENTHS, INSIDE)) == 1
    watch.reconfigure(parse_watch({**zones, "rules": {"long": "person stays in yard for 6s"}}, "test"))
    assert told(play(watch, after(5.0), INSIDE)) == [("long", "stayed", 6.2)]


# -- against a simulator ---------------------------------------------------------------------------------------------

_BLOCK = st.tuples(
    st.sampled_from([0.1, 0.1, 0.1, 0.3, 1.0, 1.7, 20.0]),  # seconds before its first frame
    st.integers(1, 12),  # frames
    st.booleans(),  # the person is there
    st.sampled_from([True, True, True, False]),  # people are asked for
)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(_BLOCK, min_size=1, max_size=9), st.sampled_from([0.3, 1.0, 3.0]), st.sampled_from([0.0, 0.5, 5.0, 30.0])
)
def test_events_are_those_that_a_simulator_tells(
    blocks: list[tuple[float, int, bool, bool]], least: float, gap: float
) -> None:
    sights, tenths = [], 0
    for pause, frames, there, asked in blocks:
        for index in range(frames):
            tenths += 1 if index else round(pause * 10)
            sights.append(Sight(tenths / 10, there, asked))
    options = f"for {least}s" + (f" gap {gap}s" if gap else "")
    rules = {
        "in": f"person in yard {options}",
        "no": f"no person in yard {options}",
        "enters": "person enters yard",
        "leaves": "person leaves yard",
        "stays": f"person stays in yard for {least}s",
    }
    assert tuple(rules) == ORDER
    watch = EventEngine(parse_watch({"zones": YARD, "rules": rules}, "test"))
    found = []
    for place, sight in enumerate(sights):
        classes = ("person", "car") if sight.asked else ("car",)
        boxes = {"person": [INSIDE]} if sight.there and sight.asked else {}
        for event in watch.update(sight.time, prediction(boxes, classes)).events:
            value = {"entered": event.seconds, "left": event.value}.get(event.kind.value)
            found.append((place, event.rule, event.kind.value, None if value is None else round(value, 3)))
    assert found == expected(sights, least, gap)
