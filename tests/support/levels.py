"""What the state of a rule tells, by its definition: a second statement of `Level`, which looks at all frames again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Truth(Enum):
    """What is known of a condition at one moment."""

    HOLDS = "holds"
    BETWEEN = "between"  # it holds no more, but not yet so little that the state ends (`until`)
    FAILS = "fails"
    UNKNOWN = "unknown"
    NOT_ASKED = "not asked"  # its class is not asked for


@dataclass(frozen=True)
class Moment:
    """A frame, or one of the two ends of a gap."""

    time: float
    truth: Truth


_BROKEN_BEFORE = (Truth.FAILS, Truth.UNKNOWN)  # a state that was not told must be certain
_BROKEN_AFTER = (Truth.FAILS,)  # one that was told ends where it is certain


def simulated(
    moments: Sequence[Moment], least: float, gap: float, cooldown: float, *, on: bool = False
) -> list[tuple[int, str]]:
    """Places in `moments` and what is told there; `on`: a STARTED was told before the first of them."""

    def end_of(begin: int, broken: tuple[Truth, ...]) -> int:
        """The first moment after `begin` at which the state is over."""
        for stop in range(begin + 1, len(moments)):
            if moments[stop].truth is Truth.NOT_ASKED:
                return stop
            for first in range(begin + 1, stop + 1):
                lasted = moments[stop].time - moments[first].time
                if all(one.truth in broken for one in moments[first : stop + 1]) and (gap == 0 or lasted > gap + 1e-6):
                    return stop
        return len(moments)

    told: list[tuple[int, str]] = []
    last_start: float | None = None
    place = 0
    if on:
        place = end_of(-1, _BROKEN_AFTER)
        if place == len(moments):
            return told
        told.append((place, "ended"))
        place += 1
    while place < len(moments):
        if moments[place].truth is not Truth.HOLDS:
            place += 1
            continue
        begin, end = place, end_of(place, _BROKEN_BEFORE)
        started = None
        for number in range(begin, end):
            moment = moments[number]
            due = moment.time - moments[begin].time >= least - 1e-6
            free = last_start is None or moment.time - last_start >= cooldown - 1e-6
            if due and free and moment.truth in (Truth.HOLDS, Truth.BETWEEN):
                started, last_start = number, moment.time
                break
        if started is not None:
            told.append((started, "started"))
            end = end_of(started, _BROKEN_AFTER)
            if end < len(moments):
                told.append((end, "ended"))
        place = end + 1
    return told
