"""JSON that may come from anywhere, into frozen dataclasses: nothing unknown, nothing missing, no wrong type."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .errors import BundleError

T = TypeVar("T")


def parse(kind: type[T], value: Any, where: str, advice: str) -> T:
    """Build the dataclass `kind` from parsed JSON; raises `BundleError` that names the place and ends in `advice`."""
    try:
        result: T = _parse(kind, value, where)
    except _Wrong as error:
        raise BundleError(f"{error}; {advice}") from error
    return result


class _Wrong(Exception):
    """Where, what was found and what was expected."""


def _parse(kind: Any, value: Any, where: str) -> Any:
    wrong = _Wrong(f"{where}: found {type(value).__name__}, expected {kind}")
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise wrong
        hints = get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise _Wrong(f"{where}: unknown entries {unknown}")
        required = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
        missing = sorted(required - set(value))
        if missing:
            raise _Wrong(f"{where}: missing entries {missing}")
        return kind(**{key: _parse(hints[key], item, f"{where}: {key}") for key, item in value.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        if value not in arguments:
            raise _Wrong(f"{where}: found {value!r}, expected one of {list(arguments)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise wrong
        return tuple(_parse(arguments[0], item, where) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise wrong
        return {str(key): _parse(arguments[1], item, where) for key, item in value.items()}
    if arguments:  # int | str, Part | None
        for part in arguments:
            if dataclasses.is_dataclass(part) and isinstance(value, dict):
                return _parse(part, value, where)
        if type(value) not in arguments:
            raise wrong
        return value
    if type(value) is not kind:
        raise wrong
    return value
