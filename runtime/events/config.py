"""What to watch for, as TOML: zones, lines and rules of one camera.

    rules = ["person in door for 2s", "count(car in yard) > 3"]     # or [rules] with a name for each

    [zones.door]
    points = [[0.40, 0.35], [0.60, 0.35], [0.60, 0.95], [0.40, 0.95]]   # shares of width and height
    anchor = "foot"                                                     # or centre, half, touch

    [lines.line_a]
    points = [[0.1, 0.6], [0.9, 0.6]]

A file of `ovs-run --zones` holds these tables, and those of `delivery/options.py`; a file of several cameras holds the
first three in each camera's table. Every function here takes plain tables, as `tomllib` gives them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...bundle.errors import UsageError, require
from ...bundle.files import refuse_pipe
from ...bundle.strict import finite, is_integer, shown
from .grammar import parse_rule, rule_text
from .places import FRAME, Anchor, Line, Places, Point, Zone
from .rules import Condition, Rule

TABLES = ("zones", "lines", "rules")  # that `parse_watch` reads; others in the same table are not its business
MOST_RULES = 200  # of one camera
_MOST_BYTES = 2**20  # of a file
_LONGEST_NAME = 120  # characters of a rule's name
_WIDE = "an integer of more than 64 bits, which is no TOML; expected a smaller number"


@dataclass(frozen=True)
class WatchConfig:
    """Zones, lines and rules of one camera. Raises `UsageError` for a rule whose zone or line is not there."""

    places: Places = field(default_factory=Places)
    rules: Mapping[str, Rule] = field(default_factory=dict)  # name -> rule; the order is that of the events of a frame

    def __post_init__(self) -> None:
        if len(self.rules) > MOST_RULES:
            raise UsageError(f"{len(self.rules)} rules were given, expected at most {MOST_RULES}")
        zones = {FRAME, *(zone.name for zone in self.places.zones)}
        lines = {line.name for line in self.places.lines}
        for rule in self.rules.values():
            crossing = rule.condition is Condition.CROSSES
            known, what = (lines, "line") if crossing else (zones, "zone")
            if rule.place not in known:
                found = ", ".join(sorted(known)) or "none"
                raise UsageError(
                    f"rule {rule_text(rule)!r}: there is no {what} {rule.place!r}, expected one of: {found}"
                )


def parse_watch(table: Mapping[str, Any], where: str, rules: Sequence[str] = ()) -> WatchConfig:
    """The `zones`, `lines` and `rules` of `table`, and further `rules` as `--rule` gives them.

    `where` says in errors where the table stands: "zones.toml", "cameras.toml: camera front". Raises `UsageError`.
    """
    try:
        zones = tuple(_zone(name, entry) for name, entry in _table(table, "zones").items())
        lines = tuple(_line(name, entry) for name, entry in _table(table, "lines").items())
        return WatchConfig(Places(zones, lines), {**parse_rules(table.get("rules", {})), **parse_rules(list(rules))})
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def parse_rules(entry: object) -> dict[str, Rule]:
    """Rules by their names: a list of rules, named by their own text, or a table name = "rule"."""
    if isinstance(entry, list):
        if not all(isinstance(text, str) for text in entry):
            raise UsageError('rules is a list with other things than text, expected ["person in door for 2s"]')
        parsed = [parse_rule(text) for text in entry]
        return {rule_text(rule): rule for rule in parsed}
    if not isinstance(entry, Mapping):
        raise UsageError(f'rules is {shown(entry)}, expected a list ["person in door"] or a table of name = "rule"')
    found = {}
    for name, text in entry.items():
        if not isinstance(text, str):
            raise UsageError(f'the rule {name!r} is {shown(text)}, expected text: {name} = "person in door for 2s"')
        if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
            raise UsageError(f"a rule is called {name[:70]!r}, expected 1 to {_LONGEST_NAME} printable characters")
        found[name] = parse_rule(text)
    return found


def parse_places(table: Mapping[str, Any]) -> Places:
    """Zones and lines of `table` alone. Raises `UsageError`."""
    zones = tuple(_zone(name, entry) for name, entry in _table(table, "zones").items())
    return Places(zones, tuple(_line(name, entry) for name, entry in _table(table, "lines").items()))


def places_table(places: Places) -> dict[str, Any]:
    """`places` as the tables that `parse_places` reads; also what the page gets and sends."""

    def entry(place: Zone | Line) -> dict[str, Any]:
        return {"points": [list(point) for point in place.points], "anchor": place.anchor.value}

    return {
        "zones": {zone.name: entry(zone) for zone in places.zones},
        "lines": {line.name: entry(line) for line in places.lines},
    }


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises `UsageError` for one that cannot be read, is too large, a pipe, or no TOML."""
    return parse_toml(toml_bytes(path), str(path))


def is_there(path: Path) -> bool:
    """Whether there is something at `path`; what cannot be looked at counts, for reading it says what is wrong."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        pass
    return True


def toml_bytes(path: Path) -> bytes:
    """The bytes of a TOML file. Raises `UsageError` for one that cannot be read, is too large, or a pipe."""
    refuse_pipe(path, "the file of zones or cameras")
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path} ({getattr(error, 'strerror', None) or error})") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than {_MOST_BYTES >> 20} MiB; it is no file of zones or cameras")
    return data


def parse_toml(data: bytes, where: str) -> dict[str, Any]:
    """The tables of TOML text in UTF-8; `where` stands in errors. Raises `UsageError`."""
    tomllib = require("tomllib" if sys.version_info >= (3, 11) else "tomli", "events")
    try:
        found: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
        _refuse_wide(found, where, ())
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is no TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"{where} is no TOML: nested too deeply") from error
    except ValueError as error:  # of int(), for more than 4300 digits
        raise UsageError(f"{where}: it holds {_WIDE}") from error
    return found


def _refuse_wide(value: object, where: str, keys: tuple[str, ...]) -> None:
    """Raise `UsageError` where an integer has more than the 64 bits of TOML, which `tomllib` does not check."""
    if isinstance(value, dict):
        for key, entry in value.items():
            _refuse_wide(entry, where, (*keys, key))
    elif isinstance(value, list):
        for entry in value:
            _refuse_wide(entry, where, keys)
    elif isinstance(value, int) and not isinstance(value, bool) and not is_integer(value):
        *tables, key = keys
        table = f"[{'.'.join(tables)[:80]}] " if tables else ""
        raise UsageError(f"{where}: {table}{key[:80]} is or holds {_WIDE}")


def unknown_keys(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Raise `UsageError` for a key of `table` that nothing reads: most likely it is misspelt."""
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: there is {shown(key)}, expected one of: {', '.join(known)}")


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = table.get(name, {})
    if not isinstance(found, Mapping):
        raise UsageError(f"{name} is {type(found).__name__}, expected tables [{name}.NAME]")
    return found


def _zone(name: str, entry: object) -> Zone:
    return Zone(name, *_points(name, entry, "zone"))


def _line(name: str, entry: object) -> Line:
    return Line(name, *_points(name, entry, "line"))


def _points(name: str, entry: object, what: str) -> tuple[tuple[Point, ...], Anchor]:
    called = f"the {what} {shown(name)}"
    if not isinstance(entry, Mapping):
        raise UsageError(f"{called} is {shown(entry)}, expected a table with points = [[0.1, 0.2], …]")
    unknown_keys(entry, ("points", "anchor"), called)
    points = _listed(entry.get("points"))
    if points is None:
        raise UsageError(f"{called} has no list of points, expected points = [[0.1, 0.2], …]")
    try:
        return points, Anchor(entry.get("anchor", Anchor.FOOT.value))
    except ValueError as error:
        known = ", ".join(anchor.value for anchor in Anchor)
        raise UsageError(f"{called} has the anchor {shown(entry['anchor'])}, expected one of: {known}") from error


def _listed(entry: object) -> tuple[Point, ...] | None:
    """The points that `entry` lists, or None where it is no list of pairs of finite numbers."""
    if not isinstance(entry, list):
        return None
    points = []
    for pair in entry:
        x, y = map(finite, pair) if isinstance(pair, list) and len(pair) == 2 else (None, None)
        if x is None or y is None:
            return None
        points.append((x, y))
    return tuple(points)
