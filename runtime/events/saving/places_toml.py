"""Zones and lines within TOML text: those that change are written anew, everything else stays as it is.

Comments stay, too, except within the points that change and within a zone that is removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from ....bundle.errors import UsageError
from ..config import TABLES, parse_places, parse_toml
from ..places import Line, Places, Zone
from .toml_statements import Statement, statements

_KINDS = TABLES[:2]  # zones, lines
_BLANK = re.compile(r"[ \t]*")


def replace_places(text: str, places: Places, where: str) -> str:
    """`text` with `places` as its zones and lines; `where` says in errors what it is.

    Raises `UsageError` for text that is no TOML, and where zones are written so that they cannot be changed alone.
    """
    old = parse_toml(text.encode(), where)
    before, after = parse_places(old).by_name, places.by_name
    document = _Document(text)
    added = [place for name, place in after.items() if before.get(name) != place]
    for name, place in before.items():
        if after.get(name) == place:
            continue
        following = [one for one in added if one.name == name or _renamed(place, one, before)]
        if following and document.change(place, following[0]):
            added.remove(following[0])
        else:
            document.remove(place)
    for kind in reversed(_KINDS):  # what is inserted first comes last
        document.add([place for place in added if _kind(place) == kind], kind)
    result = document.edited()
    _verify(old, result, places, where)
    return result


def _renamed(one: Zone | Line, other: Zone | Line, before: dict[str, Zone | Line]) -> bool:
    return other.name not in before and replace(one, name=other.name) == other


def _verify(old: dict[str, Any], text: str, places: Places, where: str) -> None:
    """Raise `UsageError` where `text` does not hold `places`, or anything else than before."""
    try:
        new = parse_toml(text.encode(), where)
        sound = parse_places(new).by_name == places.by_name
    except UsageError:
        sound, new = False, {}
    if not sound or any(old.get(name) != new.get(name) for name in {*old, *new}.difference(_KINDS)):
        raise UsageError(
            f"the zones in {where} are not written as tables [zones.NAME]; save them in a file of their own"
        )


# -- places as text --------------------------------------------------------------------------------------------------


def _kind(place: Zone | Line) -> str:
    return _KINDS[0] if isinstance(place, Zone) else _KINDS[1]


def _points(place: Zone | Line) -> str:
    """With all digits: what was accepted is the same when it is read again."""
    return f"[{', '.join(f'[{x!r}, {y!r}]' for x, y in place.points)}]"


def _header(place: Zone | Line) -> str:
    name = place.name
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"[{_kind(place)}.{name}]"


# -- changes of the text ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Edit:
    start: int
    stop: int
    text: str
    table: bool = False  # whether it is whole tables, which blank lines divide from others


class _Document:
    """A text, where the places stand in it, and the changes so far; offsets are those of the text as it was."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._newline = "\r\n" if "\r\n" in text else "\n"
        self._statements = list(statements(text))
        self._edits: list[_Edit] = []

    def change(self, place: Zone | Line, new: Zone | Line) -> bool:
        """Make `new` of `place` where that stands; False, and nothing is changed, where that is not possible."""
        own = {one.keys[2:]: one for one in self._statements if one.keys[:2] == (_kind(place), place.name)}
        whole, points, anchor = own.get(()), own.get(("points",)), own.get(("anchor",))
        if _kind(new) != _kind(place) or (new.name != place.name and not (whole and whole.header)):
            return False
        if whole is not None and not whole.header:  # door = {points = …}
            value = f'{{ points = {_points(new)}, anchor = "{new.anchor.value}" }}'
            self._edits.append(_Edit(whole.value, whole.end, value))
            return True
        anchored = new.anchor is not place.anchor
        if points is None or (anchored and anchor is None and whole is None):  # zones = {…}, zones.door.points = …
            return False
        if whole is not None and new.name != place.name:
            self._edits.append(_Edit(whole.value, whole.end, _header(new)))
        if new.points != place.points:
            self._edits.append(_Edit(points.value, points.end, _points(new)))
        if anchored and anchor is not None:
            self._edits.append(_Edit(anchor.value, anchor.end, f'"{new.anchor.value}"'))
        elif anchored:
            indent = _BLANK.match(self._text, points.start)
            begin = "" if self._text[: points.stop].endswith("\n") else self._newline
            line = f'{begin}{indent[0] if indent else ""}anchor = "{new.anchor.value}"{self._newline}'
            self._edits.append(_Edit(points.stop, points.stop, line))
        return True

    def remove(self, place: Zone | Line) -> None:
        """Remove `place`: from its header to its last value, without the comments that follow."""
        run: list[Statement] = []
        for one in [*self._statements, None]:
            if one is not None and one.keys[:2] == (_kind(place), place.name):
                run.append(one)
            elif run:
                self._edits.append(_Edit(run[0].start, run[-1].stop, "", table=True))
                run = []

    def add(self, places: list[Zone | Line], kind: str) -> None:
        """Put `places` behind the last table of their kind, or to the end."""
        tables = [
            f'{_header(place)}{self._newline}points = {_points(place)}{self._newline}anchor = "{place.anchor.value}"'
            for place in places
        ]
        if not tables:
            return
        at, within = len(self._text), False
        for one in self._statements:
            within = one.keys[:1] == (kind,) if one.header else within
            if within:
                at = one.stop
        self._edits.append(_Edit(at, at, (self._newline * 2).join(tables) + self._newline, table=True))

    def edited(self) -> str:
        """The text with all changes."""
        text = self._text
        # From the end, so that offsets stay right; of those at one place, what is done first comes last.
        for edit in sorted(self._edits, key=lambda edit: (edit.start, edit.stop, edit.table), reverse=True):
            head, new, tail = text[: edit.start], edit.text, text[edit.stop :]
            if edit.table:
                blank = not head or re.search(r"\n\r?\n$", head) is not None
                if not new and blank:
                    tail = re.sub(r"^\r?\n", "", tail)
                    head = head if tail else re.sub(r"(\r?\n)+$", self._newline, head)
                elif new:
                    ended = self._newline if head and not head.endswith("\n") else ""
                    new = ended + ("" if blank else self._newline) + new
                    new += self._newline if tail and not re.match(r"\r?\n", tail) else ""
            text = head + new + tail
        return text
