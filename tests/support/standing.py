"""One person who stands in a zone or is gone, before a camera that may be away: what is told of that, by definition.

A second statement of ids, stays and evidence for the simplest world there is; every frame is judged by looking at all
frames up to it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from support.levels import Moment, Truth, simulated

EPS = 1e-6


@dataclass(frozen=True)
class Sight:
    """One frame."""

    time: float
    there: bool  # the person stands in the zone
    asked: bool = True  # somebody asks for people


@dataclass(frozen=True)
class Stay:
    """A region from its first frame on; the fields after `seen` are places of frames, None: not up to now."""

    seen: tuple[int, ...]  # places of the frames in which it was seen
    named: int | None  # in which it got its id
    entered: int | None  # in which its entry was told
    given_up: int | None  # in which it was given up


def begins(sights: Sequence[Sight], place: int) -> bool:
    """Whether nobody knows what was between the frame at `place` and the one before."""
    if place == 0:
        return True
    passed = [after.time - before.time for before, after in pairwise(sights[: place + 1])]
    *earlier, now = passed
    usual = sorted(earlier[-64:])[-2] if len(earlier) > 1 else 0.0
    return now > max(1.0, 2 * usual) + EPS


def stays(sights: Sequence[Sight], settled: float = 0.2) -> list[Stay]:
    """All regions, in the order of their ids."""
    found: list[Stay] = []
    seen: list[int] = []

    def put(given_up: int | None) -> None:
        if seen:
            named = seen[2] if len(seen) > 2 else None
            entered = None
            if named is not None:
                sure = [one for one in seen[2:] if sights[one].time - sights[named].time >= settled - EPS]
                entered = sure[0] if sure else None
            found.append(Stay(tuple(seen), named, entered, given_up))
            seen.clear()

    for place, sight in enumerate(sights):
        if seen:
            passed = sight.time - sights[place - 1].time
            watched = 0.0
            for one in seen[1:]:
                watched += sights[one].time - sights[one - 1].time
            kept = max(1.0 if watched >= 0.4 else 0.2, passed + 0.001)
            if begins(sights, place) or sight.time - sights[seen[-1]].time > kept:
                put(place)
        if sight.there and sight.asked:
            seen.append(place)
    put(None)
    return [one for one in found if one.named is not None]


def truths(sights: Sequence[Sight], *, wanted: bool, settled: float = 0.2) -> list[tuple[int, Moment]]:
    """What is known, frame by frame, of `person in zone` (`wanted`) or `no person in zone`; each with its frame."""
    moments: list[tuple[int, Moment]] = []
    regions = stays(sights, settled)
    watched: list[int] = []  # frames in a row, without a gap, in which somebody asks
    for place, sight in enumerate(sights):
        if place and begins(sights, place):
            watched.clear()
            moments += [(place, Moment(one.time, Truth.UNKNOWN)) for one in (sights[place - 1], sight)]
        watched = [*watched, place] if sight.asked else []
        inside = any(
            one.entered is not None and one.entered <= place and (one.given_up is None or one.given_up > place)
            for one in regions
        )
        if not sight.asked:
            truth = Truth.NOT_ASKED
        elif len(watched) < 3 or sight.time - sights[watched[2]].time < settled - EPS:
            truth = Truth.UNKNOWN
        else:
            truth = Truth.HOLDS if inside == wanted else Truth.FAILS
        moments.append((place, Moment(sight.time, truth)))
    return moments


def expected(sights: Sequence[Sight], least: float, gap: float) -> list[tuple[int, str, str, float | None]]:
    """Frame in which it is told, rule (in, no, enters, leaves, stays), kind, and the time that matters, of all events.

    That time is when it came for `enters`, its dwell time for `leaves`, and none for the others.
    """
    told: list[tuple[int, str, str, float | None]] = []
    for name, wanted in (("in", True), ("no", False)):
        moments = truths(sights, wanted=wanted)
        for place, kind in simulated([moment for _, moment in moments], least, gap, 0):
            told.append((moments[place][0], name, kind, None))
    for one in stays(sights):
        if one.entered is None or one.named is None:
            continue
        since = sights[one.named].time
        told.append((one.entered, "enters", "entered", round(since, 3)))
        up_to = len(sights) if one.given_up is None else one.given_up
        if one.given_up is not None:
            told.append((one.given_up, "leaves", "left", round(sights[one.seen[-1]].time - since, 3)))
        due = [place for place in range(one.entered, up_to) if sights[place].time - since >= least - EPS]
        told += [(due[0], "stays", "stayed", None)] if due else []
    return sorted(told, key=lambda one: (one[0], ORDER.index(one[1])))


ORDER = ("in", "no", "enters", "leaves", "stays")  # of the rules
