"""A rule from frame to frame: whether its state is on, since when, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .event import EventKind
from .evidence import Evidence
from .occupancy import Movement, Occupancy, plain_name, same_name
from .rules import Condition, Rule

_SLACK = 1e-6  # of comparisons of times, which are sums of 1/25 s


@dataclass(frozen=True)
class Facts:
    """What rules are judged by, of one frame."""

    seconds: float
    coverage: Mapping[str, Mapping[str, float]]  # zone -> label -> percent
    occupancy: Occupancy
    moved: tuple[Movement, ...]
    evidence: Evidence


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

    Where nothing is known of the condition, a STARTED does not count on it, and neither does an ENDED: until there is a
    STARTED, it is as if the condition failed; after that the state stays as it is until it is judged again.
    """

    def __init__(self, seconds: float = 0.0, gap: float = 0.0, cooldown: float = 0.0) -> None:
        self._seconds, self._gap, self._cooldown = seconds, gap, cooldown
        self._since: float | None = None  # on since; None: off
        self._failing: float | None = None  # since when the condition fails, while on
        self._last: float | None = None  # the last STARTED
        self.active = False  # whether a STARTED has no ENDED yet

    def restart(self) -> None:
        """Time starts again: an active state stays as it is until it is judged again, any other begins anew."""
        self._last = self._failing = None
        self._since = float("-inf") if self.active else None

    def skip(self, now: float) -> None:
        """A moment of which nothing is known."""
        if self.active:
            self._failing = None
        elif self._since is not None:
            self._fail(now)

    def stop(self) -> EventKind | None:
        """The condition is asked no more."""
        self._since = self._failing = None
        ended, self.active = self.active, False
        return EventKind.ENDED if ended else None

    def update(self, now: float, *, holds: bool, fails: bool) -> EventKind | None:
        """One frame. `holds` switches the state on, `fails` off; with neither it stays as it is."""
        if self._since is None:
            if not holds:
                return None
            self._since, self._failing = now, None
        elif not fails:
            self._failing = None
        else:
            ended = self._fail(now)
            if self._since is None:
                return ended
        if self.active or now - self._since < self._seconds - _SLACK:
            return None
        if self._failing is not None:  # in a gap: it may be over already
            return None
        if self._last is not None and now - self._last < self._cooldown - _SLACK:
            return None
        self.active, self._last = True, now
        return EventKind.STARTED

    def _fail(self, now: float) -> EventKind | None:
        self._failing = now if self._failing is None else self._failing
        over = not self._gap or now - self._failing > self._gap + _SLACK
        return self.stop() if over else None


class RuleState:
    """One rule of one camera."""

    def __init__(self, name: str, rule: Rule) -> None:
        self.name = name
        self.rule = rule
        self._label = plain_name(rule.label)
        self._level = Level(rule.seconds, rule.gap, rule.cooldown)
        self._last: float | None = None  # time of the frame with the last event of a region
        self._told: set[tuple[int, float]] = set()  # of STAYS: region and entry of the stays that were told

    @property
    def active(self) -> bool:
        """Whether its state is on; never so for rules whose events are over at once."""
        return self._level.active

    def restart(self) -> None:
        """Time starts again."""
        self._last = None
        self._told.clear()
        self._level.restart()

    def skip(self, since: float, now: float) -> None:
        """Nothing is known of the time from the last frame, `since`, to the next one, `now`."""
        self._level.skip(since)
        self._level.skip(now)

    def stop(self, seconds: float) -> Iterator[Occurrence]:
        """Nobody asks for it any more."""
        if (kind := self._level.stop()) is not None:
            yield Occurrence(kind, seconds)

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
        if not facts.evidence.is_asked(self._label):
            yield from self.stop(facts.seconds)
            return
        if rule.condition is not Condition.COVERAGE and not facts.evidence.is_enough(rule.place, self._label):
            self._level.skip(facts.seconds)
            return
        value: float
        if rule.condition is Condition.COVERAGE:
            shares = facts.coverage.get(rule.place, {})
            value = next((share for label, share in shares.items() if same_name(label, rule.label)), 0.0)
        else:
            value = facts.occupancy.count(rule.place, rule.label)
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
        visits = {(one.track.id, one.since): one for one in facts.occupancy.visits(self.rule.place, self.rule.label)}
        self._told &= visits.keys()
        for key, visit in visits.items():
            stayed = facts.seconds - visit.since
            if key not in self._told and stayed >= self.rule.seconds - _SLACK and self._ready(facts.seconds):
                self._told.add(key)
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
            if self._ready(facts.seconds):
                yield Occurrence(one.kind, one.seconds, one.track.id, one.dwell, one.direction, one.track.box)

    def _ready(self, now: float) -> bool:
        """Whether no cool-down is running; starts the next one if so.

        `now` is the time of the frame, which does not go back: an event may be of a moment before the last one's.
        """
        if self._last is not None and now - self._last < self.rule.cooldown - _SLACK:
            return False
        self._last = now
        return True
