"""A rule: one condition on a class, and what has to come together before it counts."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from .places import FRAME


class Condition(str, Enum):
    """What a rule looks at."""

    IN = "in"  # person in door: at least one region of the class is in the zone
    NO = "no"  # no person in door: none is
    COUNT = "count"  # count(car in yard) > 3: the number of regions in the zone
    COVERAGE = "coverage"  # coverage(water in floor) > 5%: the share of the zone's pixels
    ENTERS = "enters"  # person enters yard: one event for each region
    LEAVES = "leaves"  # person leaves yard: likewise, with its dwell time
    STAYS = "stays"  # person stays in door for 10s: the same region for so long
    CROSSES = "crosses"  # cat crosses line_a to left

    @property
    def lasting(self) -> bool:
        """Whether it is a state that starts and ends; else each region makes events of its own."""
        return self in (Condition.IN, Condition.NO, Condition.COUNT, Condition.COVERAGE)


_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
}
OPERATORS = tuple(_OPERATORS)


@dataclass(frozen=True)
class Limit:
    """A comparison with a number."""

    operator: str  # one of OPERATORS
    number: float  # of regions, or percent

    def holds(self, value: float) -> bool:
        """Whether `value` is on the right side of the number."""
        return _OPERATORS[self.operator](value, self.number)


@dataclass(frozen=True)
class Rule:
    """One rule, made by `grammar.parse_rule` and written by `grammar.rule_text`."""

    condition: Condition
    label: str  # class; while it is not asked for, nothing is judged
    place: str = FRAME  # zone, or line of a crossing
    limit: Limit | None = None  # of COUNT and COVERAGE
    until: Limit | None = None  # of COUNT and COVERAGE: hysteresis, where the state ends; None: where `limit` fails
    seconds: float = 0.0  # `for`: the condition must hold for so long without a break
    gap: float = 0.0  # `gap`: a break up to so many seconds is none
    cooldown: float = 0.0  # `cooldown`: seconds after an event in which no other one starts
    direction: str | None = None  # of a crossing: "left", "right", or None for both
