"""Which regions are in which zone, since when, and which cross a line.

A region counts as inside once it was there for a fifth of a second, and as outside once it was outside for as long, so
that a mask that trembles at a zone's edge makes no events; times are those at which it really came and went. A region
that is hidden for a moment stays where it was; one that is given up has left when it was last seen. After a gap in the
frames that is every one, so no dwell time counts what nobody saw.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..regions.track import Point, Track
from .event import EventKind
from .place_masks import Located
from .places import FRAME, Anchor, Line, Places

SETTLED = 0.2  # seconds
_CLEAR = 0.008  # distance from a line, in shares of the frame, from which it is certain on which side a region is
_SLACK = 1e-6  # of comparisons of times


@dataclass(frozen=True)
class ZoneState:
    """A zone at one moment."""

    counts: Mapping[str, int]  # label -> regions in it
    coverage: Mapping[str, float]  # label -> percent of its area
    entries: Mapping[str, int]  # label -> regions that entered it since the start
    exits: Mapping[str, int]  # label -> regions that left it


@dataclass(frozen=True)
class Movement:
    """A region entered or left a zone, or crossed a line."""

    kind: EventKind  # ENTERED, LEFT or CROSSED
    place: str
    track: Track  # as it was last seen
    seconds: float  # when
    dwell: float | None = None  # of LEFT: seconds it was inside
    direction: str | None = None  # of CROSSED


@dataclass
class Visit:
    """A region's stay in a zone, also a stay that is not yet certain."""

    track: Track
    inside: bool = False
    since: float = 0.0  # when it entered
    doubt: float | None = None  # when what is seen began to differ from `inside`


class Occupancy:
    """The state of all zones and lines."""

    def __init__(self, places: Places) -> None:
        self._lines = places.lines
        self._visits: dict[str, dict[int, Visit]] = {FRAME: {}, **{zone.name: {} for zone in places.zones}}
        self._sides: dict[str, dict[int, tuple[int, Point]]] = {line.name: {} for line in places.lines}
        self._zones = {zone.name: zone for zone in places.zones}
        self._entries: dict[str, dict[str, int]] = {name: {} for name in self._visits}
        self._exits: dict[str, dict[str, int]] = {name: {} for name in self._visits}
        self._last: dict[int, tuple[float, Track]] = {}  # id -> when it was last seen, and how

    def reconfigure(self, places: Places) -> None:
        """Other zones and lines; those that stay the same keep their state."""
        fresh = Occupancy(places)
        for zone in (FRAME, *(zone.name for zone in places.zones if self._zones.get(zone.name) == zone)):
            fresh._visits[zone] = self._visits[zone]
            fresh._entries[zone], fresh._exits[zone] = self._entries[zone], self._exits[zone]
        for line in places.lines:
            if line in self._lines:
                fresh._sides[line.name] = self._sides[line.name]
        fresh._last = self._last
        self.__dict__.update(fresh.__dict__)

    def update(
        self, seconds: float, tracks: Iterable[Track], located: Located, alive: frozenset[int]
    ) -> list[Movement]:
        """What moved since the last frame. `alive` are the ids of all regions that are not given up."""
        seen = {track.id: track for track in tracks}
        moved: list[Movement] = []
        for zone, visits in self._visits.items():
            inside = located.inside.get(zone, frozenset())
            for track in seen.values():
                moved += self._look(zone, visits, track, seconds, there=track.id in inside)
            for gone in [one for one in visits if one not in alive]:
                visit = visits.pop(gone)
                if visit.inside:
                    left = visit.doubt if visit.doubt is not None else self._last[gone][0]
                    moved.append(self._leave(zone, visit, left))
        for line in self._lines:
            moved += self._crossings(line, seen.values(), seconds, alive)
        for number, track in seen.items():
            self._last[number] = (seconds, track)
        self._last = {number: entry for number, entry in self._last.items() if number in alive}
        return sorted(moved, key=lambda one: one.seconds)

    def count(self, zone: str, label: str) -> int:
        """Regions of the class that are in the zone."""
        return sum(visit.inside and same_name(visit.track.label, label) for visit in self._visits[zone].values())

    def visits(self, zone: str, label: str) -> list[Visit]:
        """Their stays."""
        found = self._visits[zone].values()
        return [visit for visit in found if visit.inside and same_name(visit.track.label, label)]

    def states(self, coverage: Mapping[str, Mapping[str, float]]) -> dict[str, ZoneState]:
        """All zones, for display."""
        states = {}
        for zone, visits in self._visits.items():
            counts: dict[str, int] = {}
            for visit in visits.values():
                if visit.inside:
                    counts[visit.track.label] = counts.get(visit.track.label, 0) + 1
            states[zone] = ZoneState(counts, coverage.get(zone, {}), dict(self._entries[zone]), dict(self._exits[zone]))
        return states

    def _look(
        self, zone: str, visits: dict[int, Visit], track: Track, seconds: float, *, there: bool
    ) -> list[Movement]:
        visit = visits.get(track.id)
        if visit is None:
            if not there:
                return []
            # It was there before it had its id: since when, its age tells, but for a zone other than the frame only
            # that it is here now.
            visit = visits[track.id] = Visit(track, doubt=seconds - track.age if zone == FRAME else seconds)
        visit.track = track
        if there == visit.inside:
            visit.doubt = None
            if not there:
                del visits[track.id]
            return []
        if visit.doubt is None:
            visit.doubt = seconds
        if seconds - visit.doubt < SETTLED - _SLACK:
            return []
        changed = visit.doubt
        if there:
            visit.inside, visit.since, visit.doubt = True, changed, None
            entries = self._entries[zone]
            entries[track.label] = entries.get(track.label, 0) + 1
            return [Movement(EventKind.ENTERED, zone, track, changed)]
        del visits[track.id]
        return [self._leave(zone, visit, changed)]

    def _leave(self, zone: str, visit: Visit, seconds: float) -> Movement:
        exits = self._exits[zone]
        exits[visit.track.label] = exits.get(visit.track.label, 0) + 1
        return Movement(EventKind.LEFT, zone, visit.track, seconds, dwell=seconds - visit.since)

    def _crossings(self, line: Line, tracks: Iterable[Track], seconds: float, alive: frozenset[int]) -> list[Movement]:
        sides = self._sides[line.name]
        moved = []
        for track in tracks:
            point = track.foot if line.anchor is Anchor.FOOT else track.centre
            side = _side(line, point)
            before = sides.get(track.id)
            if side == 0:
                continue
            if before is not None and before[0] != side and _meets(line, before[1], point):
                direction = "right" if side > 0 else "left"
                moved.append(Movement(EventKind.CROSSED, line.name, track, seconds, direction=direction))
            sides[track.id] = (side, point)
        for gone in [one for one in sides if one not in alive]:
            del sides[gone]
        return moved


def same_name(one: str, other: str) -> bool:
    """Whether two names of classes are the same: case, spaces and Unicode's forms make no difference."""
    return one == other or plain_name(one) == plain_name(other)


def plain_name(name: str) -> str:
    """What is the same for all names that `same_name` takes for one."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _side(line: Line, point: Point) -> int:
    """-1 left of the line as it runs on the screen, 1 right of it, 0 so close to it that it is not certain."""
    nearest, sign = float("inf"), 0.0
    for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
        dx, dy = x1 - x0, y1 - y0
        length = max(dx * dx + dy * dy, 1e-12)
        along = min(1.0, max(0.0, ((point[0] - x0) * dx + (point[1] - y0) * dy) / length))
        away = (point[0] - x0 - along * dx) ** 2 + (point[1] - y0 - along * dy) ** 2
        if away < nearest - 1e-12:
            nearest = away
            # y grows downwards: a positive cross product is to the right of the way from first to last point.
            sign = dx * (point[1] - y0) - dy * (point[0] - x0)
    if nearest < _CLEAR**2:
        return 0
    return 1 if sign > 0 else -1


def _meets(line: Line, start: Point, end: Point) -> bool:
    """Whether the way from `start` to `end` crosses the line itself, not its continuation."""
    return any(_cross(one, other, start, end) for one, other in zip(line.points, line.points[1:], strict=False))


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    def turn(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return turn(a, b, c) * turn(a, b, d) <= 0 and turn(c, d, a) * turn(c, d, b) <= 0
