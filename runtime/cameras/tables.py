"""Tables of a TOML file as frozen dataclasses; every error is one line that names file, table and key."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ...bundle.errors import UsageError
from ...bundle.strict import finite, is_integer, shown
from ..events.delivery.in_file import expanded

Options = TypeVar("Options")


@dataclass(frozen=True)
class Between:
    """The range of a number, for `Annotated`; both ends belong to it."""

    low: float
    high: float


@dataclass(frozen=True)
class Place:
    """Where in a configuration something stands, for messages."""

    file: str  # as the user named it
    table: str = ""  # "cameras.door"; "" is the top of the file

    def error(self, key: str, problem: str) -> UsageError:
        """The error of `key` of this table."""
        table = f" [{self.table}]" if self.table else ""
        return UsageError(f"{self.file}:{table} {key[:80]} {problem}")

    def within(self, key: str) -> Place:
        """The table `key` in this table."""
        shown = key[:80] if re.fullmatch(r"[A-Za-z0-9_-]+", key) else repr(key[:80])
        return Place(self.file, f"{self.table}.{shown}" if self.table else shown)


def table_of(value: object, place: Place, key: str) -> dict[str, Any]:
    """`value` if it is a table, else raises `UsageError`."""
    if not isinstance(value, dict):
        raise place.error(key, f"is {_shown(value)}, expected a table: [{place.within(key).table}]")
    return value


def read_table(values: Mapping[str, object], options: type[Options], place: Place) -> Options:
    """`values` as an object of the frozen dataclass `options`; what is left out has its default.

    A field is a str, bool, int, float, Path, Enum, tuple[str, ...], or one of them or None; a number may be
    `Annotated[float, Between(0, 1)]`. In texts, `${NAME}` is the environment variable of that name. A field with the
    metadata "apart" is no key: whoever reads the file fills it in.
    Raises `UsageError` for a key that is not a field, a value of another type or out of range, and what
    `options` itself refuses.
    """
    fields = _fields(options)
    for key in values:
        if key not in fields:
            raise place.error(str(key), _unknown(str(key), fields))
    read = {key: _value(value, fields[key], place, key) for key, value in values.items()}
    missing = [
        field.name
        for field in dataclasses.fields(options)  # type: ignore[arg-type]
        if field.name in fields and field.name not in read and field.default is dataclasses.MISSING
    ]
    if missing:
        raise place.error(missing[0], "is missing; it has no default")
    try:
        return options(**read)
    except UsageError as error:
        raise UsageError(f"{place.file}: [{place.table}] {error}") from error


def _unknown(key: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"is unknown; did you mean {near[0]}?" if near else f"is unknown; expected one of: {', '.join(known)}"


def _fields(options: type) -> dict[str, Any]:
    hints = get_type_hints(options, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(options) if "apart" not in field.metadata}


def _value(value: object, hint: Any, place: Place, key: str) -> Any:
    between = None
    if get_origin(hint) is Annotated:
        hint, *extras = get_args(hint)
        between = next((extra for extra in extras if isinstance(extra, Between)), None)
    kinds = [kind for kind in _alternatives(hint) if kind is not type(None)]
    for kind in kinds:
        if (found := _as(kind, value)) is not None:
            break
    else:
        raise place.error(key, f"is {_shown(value)}, expected {' or '.join(map(_called, kinds))}")
    if between is not None and not between.low <= found <= between.high:
        raise place.error(key, f"is {found:g}, expected a number from {between.low:g} to {between.high:g}")
    if isinstance(found, str) and not isinstance(found, Enum):
        return _text(found, place, key)
    return tuple(_text(text, place, key) for text in found) if isinstance(found, tuple) else found


def _text(text: str, place: Place, key: str) -> str:
    """`text` with the environment's values in it. Raises `UsageError` for a NUL, which no path, class or address has."""
    if "\0" in text:
        raise place.error(key, "holds a NUL character (\\u0000); remove it")
    try:
        return expanded(text)
    except UsageError as error:
        raise place.error(key, str(error)) from error


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _as(kind: Any, value: object) -> Any:
    """`value` as a `kind`, or None where it is none."""
    if get_origin(kind) is tuple:
        texts = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        return tuple(value) if texts else None  # type: ignore[arg-type]
    if issubclass(kind, Enum):
        return next((member for member in kind if member.value == value), None)
    if kind is float:
        return finite(value)
    if kind is int:
        return value if is_integer(value) else None
    if kind is Path:
        return Path(value) if isinstance(value, str) and value and "\0" not in value else None
    return value if isinstance(value, kind) else None


def _called(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return 'a list of texts such as ["person", "bike|bicycle"]'
    if issubclass(kind, Enum):
        return " or ".join(f'"{member.value}"' for member in kind)
    return {str: "a text", Path: "a path", bool: "true or false", int: "a whole number", float: "a number"}[kind]


def _shown(value: object) -> str:
    """A value as in the file, short."""
    names: list[tuple[type, Callable[[Any], str]]] = [
        (bool, lambda flag: str(flag).lower()),
        (int, shown),
        (str, lambda text: f'"{text[:40]}"'),
        (dict, lambda table: "a table"),
        (list, lambda entries: "a list"),
        (object, lambda other: str(other)[:40]),
    ]
    return next(show(value) for kind, show in names if isinstance(value, kind))
