"""Where the statements of a TOML text stand, so that one can be changed and all else kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..config import parse_toml

_STRING = (
    r'"""(?:\\.|[^\\])*?"{3,5}'  # of several lines; up to two quotes may stand before the three that end it
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
)
_BLANK = re.compile(r"[ \t]*")
_LINE = re.compile(r"[^\n]*\n?")
_KEY = re.compile(rf"(?:{_STRING}|[^\"'=])*", re.DOTALL)
_IN_VALUE = re.compile(rf"{_STRING}|#[^\n]*|[\[\]{{}}\n]", re.DOTALL)


@dataclass(frozen=True)
class Statement:
    """A header [a.b], or an assignment a.b = 1. Offsets are in characters."""

    keys: tuple[str, ...]  # from the top of the document, the header's included
    header: bool
    start: int  # of its first line
    value: int  # of the value; of a header its [
    end: int  # of the value; of a header behind its ]
    stop: int  # of its last line, with the comment and the end of the line


def statements(text: str) -> Iterator[Statement]:
    """The statements of `text`, which is valid TOML, in their order."""
    at = 0
    table: tuple[str, ...] = ()
    while at < len(text):
        start, at = at, _after(_BLANK, text, at)
        if text[at : at + 1] in ("", "\r", "\n", "#"):
            at = _after(_LINE, text, at)
            continue
        if header := text[at] == "[":
            value, end = at, _value_end(text, at)
            keys = table = _keys(text[value:end])
        else:
            sign = _after(_KEY, text, at)
            keys = (*table, *_keys(f"{text[at:sign]}= 0"))
            value = _after(_BLANK, text, sign + 1)
            end = _value_end(text, value)
        at = _after(_LINE, text, end)
        yield Statement(keys, header, start, value, end, at)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    assert found is not None  # these patterns match nothing, too
    return found.end()


def _value_end(text: str, at: int) -> int:
    """Where the value that begins at `at` ends: before the comment or the end of the line, outside of brackets."""
    depth, stop = 0, len(text)
    for found in _IN_VALUE.finditer(text, at):
        sign = found[0][0]
        if sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif depth == 0 and sign in "\n#":
            stop = found.start()
            break
    return at + len(text[at:stop].rstrip())


def _keys(statement: str) -> tuple[str, ...]:
    """The keys of a header, or of an assignment of 0."""
    keys: list[str] = []
    inner: Any = parse_toml(statement.encode(), "the file")
    while isinstance(inner, dict | list) and inner:
        if isinstance(inner, dict):
            keys.extend(inner)  # it has one
        inner = inner[keys[-1]] if isinstance(inner, dict) else inner[0]
    return tuple(keys)
