"""Counts on a clip with known truth are exact: entries, exits, dwell times, crossings by direction."""

from __future__ import annotations

from collections import Counter

import pytest
from support.street import CLASSES, MISSING, RATE, Actor, picture, scene

from ovs_edge.runtime.events.config import parse_watch
from ovs_edge.runtime.events.engine import EventEngine
from ovs_edge.runtime.events.event import Event
from ovs_edge.runtime.segmenter import Segmenter

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

LEFT, RIGHT, LINE = 0.25, 0.65, 0.5  # the zone's edges and the line, as shares of the width
WATCH = parse_watch(
    {
        "zones": {"yard": {"points": [[LEFT, 0], [RIGHT, 0], [RIGHT, 1], [LEFT, 1]]}},
        "lines": {"gate": {"points": [[LINE, 1], [LINE, 0]]}},  # upwards: left is the picture's left
        "rules": [
            f"{label} {rule}"
            for label in ("person", "car")
            for rule in ("enters yard", "leaves yard", "crosses gate to left", "crosses gate to right")
        ],
    },
    "test",
)
FRAMES = 260


def truth(actors: list[Actor]) -> tuple[dict[str, list[tuple[int, int]]], Counter[tuple[str, str]]]:
    """Frames of entry and exit of each visit, by class, and crossings by class and direction, from the known places."""
    visits: dict[str, list[tuple[int, int]]] = {"person": [], "car": []}
    crossings: Counter[tuple[str, str]] = Counter()
    for actor in actors:
        entered, side = None, 0
        for frame in range(FRAMES):
            foot = actor.foot(frame)
            there = foot is not None and LEFT <= foot[0] <= RIGHT
            if there and entered is None:
                entered = frame
            elif not there and entered is not None:
                visits[actor.label].append((entered, frame))
                entered = None
            if foot is not None:
                now = 1 if foot[0] > LINE else -1
                if side and now != side:
                    crossings[actor.label, "right" if now > 0 else "left"] += 1
                side = now
        assert entered is None, "everybody leaves before the end"
    return {label: sorted(found) for label, found in visits.items()}, crossings


def played() -> list[Event]:
    actors, engine = scene(FRAMES), EventEngine(WATCH)
    events: list[Event] = []
    for frame in range(FRAMES):
        image, prediction = picture(actors, frame)
        events += engine.update(frame / RATE, prediction, image=image).events
    return events


def test_counts_on_a_clip_with_known_truth_are_exact() -> None:
    visits, crossings = truth(scene(FRAMES))
    events = played()
    assert Counter((event.label, event.direction) for event in events if event.kind.value == "crossed") == crossings
    assert sum(crossings.values()) == 7
    for label, expected in visits.items():
        mine = [event for event in events if event.label == label]
        entered = [event for event in mine if event.kind.value == "entered"]
        left = [event for event in mine if event.kind.value == "left"]
        assert len(entered) == len(left) == len(expected)
        # Each exit belongs to the entry of the same region before it.
        found = sorted(
            (max(one.seconds for one in entered if one.region == event.region and one.seconds < event.seconds) * RATE,
             event.seconds * RATE, event.value)
            for event in left
        )  # fmt: skip
        for (entry, end, dwell), (first, last) in zip(found, expected, strict=True):
            assert entry == pytest.approx(first, abs=1)
            assert end == pytest.approx(last, abs=1)
            assert dwell is not None and dwell * RATE == pytest.approx(last - first, abs=1)


@pytest.mark.nightly
def test_crossings_are_nearly_right_with_masks_of_the_embedded_model() -> None:
    actors, engine = scene(FRAMES), EventEngine(WATCH)
    told: Counter[tuple[str, str, str | None]] = Counter()
    with Segmenter.load(precision="fp32") as segmenter:
        segmenter.set_classes(list(CLASSES))
        for frame in range(FRAMES):
            image, _ = picture(actors, frame)
            events = engine.update(frame / RATE, segmenter.predict(image), image=image).events
            told.update((event.label, event.kind.value, event.direction) for event in events)
    _, crossings = truth(actors)
    print(sorted(told.items(), key=str), crossings)
    for label in CLASSES:
        for direction in ("left", "right"):
            assert abs(told[label, "crossed", direction] - crossings[label, direction]) <= 1
