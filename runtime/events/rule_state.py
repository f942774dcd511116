"""A rule from frame to frame: whether its state is on, since when, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .event import EventKind
from .occupancy import Movement, Occupancy, same_name
from .rules import Condition, Rule

_SLACK = 1e-6  # of comparisons of times, which are sums of 1/25 s


@dataclass(frozen=True)
class Facts:
    """What rules are judged by, of one frame."""

    seconds: float
    coverage: Mapping[str, Mapping[str, float]]  # zone -> label -> percent
    occupancy: Occupancy
    moved: tuple[Movement, ...]


@dataclass(frozen=True)
class Occurrence:
    """An event without its address."""

    kind: EventKind
    seconds: float
    region: int | None = None
    value: float | None = None
    direction: str | None = None
    box: tuple[int, int, int, int] | None = None


class Level:
    """A state with hysteresis, a least time, gaps and a cool-down, whatever it is that switches it.

    It is on from the frame in which the condition starts to hold; it is off again once it failed for longer than
    `gap`. STARTED comes once it has been on for `seconds`, but not within `cooldown` after the last one; if it is
    still on when the cool-down is over, it comes then. ENDED comes when it is off after a STARTED.
    """

    def __init__(self, seconds: float = 0.0, gap: float = 0.0, cooldown: float = 0.0) -> None:
        self._seconds, self._gap, self._cooldown = seconds, gap, cooldown
        self._since: float | None = None  # on since; None: off
        self._failing: float | None = None  # since when the condition fails, while on
        self._last: float | None = None  # the last STARTED
        self.active = False  # whether a STARTED has no ENDED yet

    def restart(self) -> None:
        """Time starts again: an active state ends with the next frame, unless its condition holds there."""
        self._last = None
        if self._since is not None:
            self._since, self._failing = float("-inf"), None

    def update(self, now: float, *, holds: bool, fails: bool) -> EventKind | None:
        """One frame. `holds` switches the state on, `fails` off; with neither it stays as it is."""
        if self._since is None:
            if not holds:
                return None
            self._since, self._failing = now, None
        elif not fails:
            self._failing = None
        elif self._failing is None:
            self._failing = now
        if self._failing is not None and (not self._gap or now - self._failing > self._gap + _SLACK):
            self._since = self._failing = None
            ended, self.active = self.active, False
            return EventKind.ENDED if ended else None
        if self.active or now - self._since < self._seconds - _SLACK:
            return None
        if self._failing is not None:  # in a gap: it may be over already
            return None
        if self._last is not None and now - self._last < self._cooldown - _SLACK:
            return None
        self.active, self._last = True, now
        return EventKind.STARTED


class RuleState:
    """One rule of one camera."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.name = name
        self.rule = rule
        self._level = Level(rule.seconds, rule.gap, rule.cooldown)
        self._last: float | None = None  # the last event of a region

    @property
    def active(self) -> bool:
        """Whether its state is on; never so for rules whose events are over at once."""
        return self._level.active

    def restart(self) -> None:
        """Time starts again."""
        self._last = None
        self._level.restart()

    def update(self, facts: Facts) -> Iterator[Occurrence]:
        """What happens in one frame."""
        if self.rule.condition.lasting:
            yield from self._state(facts)
        elif self.rule.condition is Condition.STAYS:
            yield from self._stays(facts)
        else:
            yield from self._moves(facts)

    def _state(self, facts: Facts) -> Iterator[Occurrence]:
        rule = self.rule
        if rule.condition is Condition.COVERAGE:
            shares = facts.coverage.get(rule.place, {})
            value = next((share for label, share in shares.items() if same_name(label, rule.label)), 0.0)
        else:
            value = float(facts.occupancy.count(rule.place, rule.label))
        if rule.limit is not None:
            holds = rule.limit.holds(value)
            fails = not holds if rule.until is None else not holds and rule.until.holds(value)
        else:
            holds = (value > 0) == (rule.condition is Condition.IN)
            fails = not holds
        kind = self._level.update(facts.seconds, holds=holds, fails=fails)
        if kind is not None:
            yield Occurrence(kind, facts.seconds, value=value)

    def _stays(self, facts: Facts) -> Iterator[Occurrence]:
        for visit in facts.occupancy.visits(self.rule.place, self.rule.label):
            stayed = facts.seconds - visit.since
            if self.name not in visit.stayed and stayed >= self.rule.seconds - _SLACK and self._ready(facts.seconds):
                visit.stayed.add(self.name)
                yield Occurrence(EventKind.STAYED, facts.seconds, visit.track.id, stayed, None, visit.track.box)

    def _moves(self, facts: Facts) -> Iterator[Occurrence]:
        kinds = {
            Condition.ENTERS: EventKind.ENTERED,
            Condition.LEAVES: EventKind.LEFT,
            Condition.CROSSES: EventKind.CROSSED,
        }
        for one in facts.moved:
            if one.kind is not kinds[self.rule.condition] or one.place != self.rule.place:
                continue
            if not same_name(one.track.label, self.rule.label):
                continue
            if self.rule.direction is not None and one.direction != self.rule.direction:
                continue
            if self._ready(one.seconds):
                yield Occurrence(one.kind, one.seconds, one.track.id, one.dwell, one.direction, one.track.box)

    def _ready(self, now: float) -> bool:
        """Whether no cool-down is running; starts the next one if so."""
        if self._last is not None and now - self._last < self.rule.cooldown - _SLACK:
            return False
        self._last = now
        return True
