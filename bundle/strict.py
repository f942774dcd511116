"""Values that may come from anywhere: JSON into frozen dataclasses (nothing unknown or missing, no wrong type), numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from .errors import BundleError

T = TypeVar("T")

_LONGEST_SHOWN = 60  # characters


def is_integer(value: object) -> bool:
    """Whether `value` is an integer of at most 64 bits, as JSON and TOML may expect them; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def finite(value: object) -> float | None:
    """`value` as a float where it is an integer of at most 64 bits or a finite float; None for anything else."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return float(value) if isinstance(value, int) and is_integer(value) else None


def shown(value: object) -> str:
    """`value` as Python writes it, cut off where it is long, for messages."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer with more digits than Python writes, or lists nested too deeply
        text = type(value).__name__
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


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
