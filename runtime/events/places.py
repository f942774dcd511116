"""Zones and lines in the picture, in shares of its width and height, so that a camera may change its resolution."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from ...bundle.errors import UsageError

Point = tuple[float, float]  # x, y, shares of width and height, 0..1

FRAME = "frame"  # name of the zone that is the whole picture; always there
MOST_PLACES = 64  # zones and lines of one camera
MOST_POINTS = 64  # of one of them
_LONGEST_NAME = 64  # characters
_LEAST_AREA = 1e-6  # of a zone, share of the picture


class Anchor(str, Enum):
    """Which part of a region decides whether it is in a zone, or on which side of a line."""

    FOOT = "foot"  # middle of its lowest pixels: people and vehicles on the ground
    CENTRE = "centre"  # mean of its pixels
    HALF = "half"  # zones: at least half of its pixels; for a line the centre
    TOUCH = "touch"  # zones: any of its pixels; for a line the centre


@dataclass(frozen=True)
class Zone:
    """A polygon, filled by the even-odd rule where its edges cross. Raises `UsageError` for one that is none."""

    name: str
    points: tuple[Point, ...]  # corners, at least three; the last is joined to the first
    anchor: Anchor = Anchor.FOOT

    def __post_init__(self) -> None:
        _check(self.name, self.points, 3, "zone")
        if self.name == FRAME:
            raise UsageError(f"a zone is called {FRAME!r}, which is the name of the whole picture; choose another name")
        if _area(self.points) < _LEAST_AREA:
            raise UsageError(f"the zone {self.name!r} has no area; move its points apart")


@dataclass(frozen=True)
class Line:
    """A line from its first point to its last, with corners in between if there are more than two points."""

    name: str
    points: tuple[Point, ...]  # at least two
    anchor: Anchor = Anchor.FOOT

    def __post_init__(self) -> None:
        _check(self.name, self.points, 2, "line")
        if sum(math.dist(one, other) for one, other in zip(self.points, self.points[1:], strict=False)) < 1e-3:
            raise UsageError(f"the line {self.name!r} has no length; move its points apart")


@dataclass(frozen=True)
class Places:
    """All zones and lines of one camera; names are unique. Raises `UsageError`."""

    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    names: frozenset[str] = field(init=False)

    @classmethod
    def of(cls, places: Iterable[Zone | Line]) -> Places:
        """`places` in their order. Raises `UsageError`."""
        every = list(places)
        zones = tuple(place for place in every if isinstance(place, Zone))
        return cls(zones, tuple(place for place in every if isinstance(place, Line)))

    @property
    def by_name(self) -> dict[str, Zone | Line]:
        """Zones, then lines."""
        found: dict[str, Zone | Line] = {zone.name: zone for zone in self.zones}
        return found | {line.name: line for line in self.lines}

    def __post_init__(self) -> None:
        names = [*(zone.name for zone in self.zones), *(line.name for line in self.lines)]
        if len(names) > MOST_PLACES:
            raise UsageError(f"{len(names)} zones and lines were given, expected at most {MOST_PLACES}")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(f"two zones or lines are called {twice[0]!r}; each needs a name of its own")
        object.__setattr__(self, "names", frozenset(names))


def merge_places(base: Places, ours: Places, theirs: Places) -> tuple[Places, tuple[str, ...]]:
    """What two sides made of `base`: each zone and line as the side has it that changed, added or removed it.

    Also the names of those that both sides changed, and not to the same; they are as in `ours`. Raises `UsageError`.
    """
    before, mine, other = base.by_name, ours.by_name, theirs.by_name
    merged, conflicts = {}, []
    for name in {**mine, **other}:
        was, one, two = before.get(name), mine.get(name), other.get(name)
        if one not in (was, two) and two != was:
            conflicts.append(name)
        if (chosen := two if one == was else one) is not None:
            merged[name] = chosen
    return Places.of(merged.values()), tuple(conflicts)


def _check(name: str, points: tuple[Point, ...], least: int, what: str) -> None:
    if not name or len(name) > _LONGEST_NAME:
        raise UsageError(f"a {what} is called {name[:70]!r}, expected 1 to {_LONGEST_NAME} characters")
    if not name.isprintable():
        odd = next(letter for letter in name if not letter.isprintable())
        raise UsageError(
            f"a {what} is called {name!r}, which holds {odd!r}; expected letters that can be seen, and spaces"
        )
    if name != " ".join(name.split()):
        text = " ".join(name.split())
        raise UsageError(
            f"the name of the {what} {text!r} has more spaces; expected one between words, and none around"
        )
    if not least <= len(points) <= MOST_POINTS:
        raise UsageError(f"the {what} {name!r} has {len(points)} points, expected {least} to {MOST_POINTS}")
    for x, y in points:
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise UsageError(
                f"the {what} {name!r} has the point [{x:g}, {y:g}], expected shares of width and height from 0 to 1"
            )


def _area(points: tuple[Point, ...]) -> float:
    """Share of the picture that is filled by the even-odd rule, as zones are drawn and asked; corners may cross.

    Between the heights of two neighbouring corners or crossings no edges cross: there the polygon is trapezoids, whose
    width in the middle times their height is their area.
    """
    start = np.array(points, np.float64)
    x, y = start.T
    across, down = (np.roll(start, -1, axis=0) - start).T
    with np.errstate(all="ignore"):  # where edges are parallel, or level
        along = ((x - x[:, None]) * down - (y - y[:, None]) * across) / (
            across[:, None] * down - down[:, None] * across
        )
        crossings = (y[:, None] + along * down[:, None])[(along > 0) & (along < 1)]
        heights = np.unique(np.concatenate([y, crossings]))
        middles = ((heights[1:] + heights[:-1]) / 2)[:, None]
        spans = (np.minimum(y, y + down) < middles) & (middles < np.maximum(y, y + down))
        # The edges at each height from left to right; the polygon begins at every other one, and ends at the next.
        cuts = np.sort(np.where(spans, x + (middles - y) / down * across, np.inf), axis=1)
    widths = np.where(np.isfinite(cuts), cuts, 0.0) @ np.resize([-1.0, 1.0], len(points))
    return float(widths @ np.diff(heights))
