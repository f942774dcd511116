"""What can be judged: a class in a zone, once a region of it that is there would have been counted.

A region has its id with the third frame, and is inside a zone after a fifth of a second (occupancy.py). Until then a
zone in which nothing was counted is not known to be empty. This begins anew with a gap in the frames, with a class that
is asked for, and with a zone that is drawn or changed.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from ...bundle.vocabulary import ClassNames
from ..regions.tracker import HITS
from .occupancy import SETTLED, plain_name
from .places import FRAME, Places
from .rules import Rule

_SLACK = 1e-6  # of comparisons of times
_MOST_NAMED = 3  # rules of one line


def waiting_rules(rules: Mapping[str, Rule], classes: Sequence[ClassNames]) -> list[str]:
    """A line for each class of `rules` that is not among `classes`, so that nothing is judged by them.

    That may be meant, for classes are typed while it runs; or a name is misspelt, or is not the first of its class.
    """
    labels: dict[str, str] = {}  # every name -> its class's label
    for entry in classes:
        labels |= {plain_name(name): entry.label for name in entry.names[1:]}
    first = {plain_name(entry.label): entry.label for entry in classes}
    waiting: dict[str, list[str]] = {}
    for name, rule in rules.items():
        if plain_name(rule.label) not in first:
            waiting.setdefault(rule.label, []).append(name)
    lines = []
    for missing, names in waiting.items():
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        which = f"rule{'s' if len(names) > 1 else ''} {', '.join(map(repr, names[:_MOST_NAMED]))}{more}"
        near = difflib.get_close_matches(plain_name(missing), first, 1)
        if (label := labels.get(plain_name(missing))) is not None:
            lines.append(f"{which}: {missing!r} is another name of the class {label!r}; write {label!r} in rules")
        elif near:
            lines.append(f"{which}: no class {missing!r} is asked for; did you mean {first[near[0]]!r}?")
        else:
            lines.append(f"{which}: nothing is judged until the class {missing!r} is asked for")
    return lines


class Evidence:
    """Since when classes and zones have been watched without a break."""

    def __init__(self) -> None:
        self._seconds = 0.0  # time of the last frame
        self._classes: tuple[str, ...] = ()  # of that frame
        self._places: Places | None = None
        self._asked: dict[str, list[float]] = {}  # class -> times of its first frames, `HITS` at most
        self._zones: dict[str, float] = {}  # zone -> time of its first frame

    def update(self, seconds: float, classes: tuple[str, ...], places: Places) -> None:
        """The next frame: `classes` are asked for, and `places` watched."""
        if places != self._places:
            before = () if self._places is None else self._places.zones
            known = {zone.name: self._zones[zone.name] for zone in places.zones if zone in before}
            self._zones = {zone.name: known.get(zone.name, seconds) for zone in places.zones}
            self._places = places
        if classes != self._classes:
            self._asked = {name: self._asked.get(name, []) for name in map(plain_name, classes)}
            self._classes = classes
        for times in self._asked.values():
            if len(times) < HITS:
                times.append(seconds)
        self._seconds = seconds

    def begin_again(self) -> None:
        """Nothing is known of the time between the last frame and the next one, whose time may be before it."""
        self._asked = {name: [] for name in self._asked}
        self._zones = dict.fromkeys(self._zones, float("-inf"))  # they are watched from the next frame on

    def is_asked(self, name: str) -> bool:
        """Whether the class, a `plain_name`, is asked for."""
        return name in self._asked

    def is_enough(self, zone: str, name: str) -> bool:
        """Whether every region of the class, a `plain_name`, that can be counted in the zone has been."""
        times = self._asked.get(name, [])
        if len(times) < HITS:
            return False
        # Since when a region is in the picture, its age tells; in another zone it is from its id on.
        since = times[0] if zone == FRAME else max(times[-1], self._zones[zone])
        return self._seconds - since >= SETTLED - _SLACK
