"""A model's state within what training tools save around it.

Tools keep the state under a key (`model`, Lightning's `state_dict`), put a prefix before every name (`module.` of
DataParallel, `_orig_mod.` of torch.compile, the attribute of a LightningModule), and save a moving average of the
weights (EMA) beside them. The average is what such a training validates with, so it is taken where there is one.
Sub-modules may be wrapped too: `backbone._orig_mod.stages`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

_EMA_KEYS = ("ema", "ema_model", "model_ema", "ema_state", "ema_state_dict", "state_dict_ema", "model_ema_state_dict")
_KEYS = ("model", "state_dict", "model_state_dict", "model_state", "module", "network", "net", "weights", "params")
_EMA_PREFIXES = ("ema_model.", "model_ema.", "ema.")
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
_INFIXES = frozenset({"_orig_mod", "module"})  # no parameter of a model that is read here has one of them in its name
_DEEPEST = 4  # keys and prefixes in one another


@dataclass(frozen=True)
class FoundState:
    """One candidate for a model's state."""

    where: str  # the keys and prefixes that lead to it, such as "state_dict/model."; "" for the file itself
    values: dict[str, Any]  # parameter name -> value
    nested: bool  # it was under a key, and so holds nothing but parameters


def find_state(raw: Mapping[Any, Any], accepts: Callable[[AbstractSet[str]], bool]) -> FoundState | None:
    """The first state within `raw` whose parameter names `accepts` takes; averages come first."""
    return next((state for state in _states(raw, "", 0) if accepts(state.values.keys())), None)


def find_checkpoint(raw: Mapping[Any, Any], is_one: Callable[[Mapping[Any, Any]], bool]) -> Mapping[Any, Any] | None:
    """The first whole checkpoint within `raw`, by `is_one`; the file itself comes first, then averages, see above."""
    return _checkpoint(raw, is_one, 0)


def _checkpoint(
    raw: Mapping[Any, Any], is_one: Callable[[Mapping[Any, Any]], bool], depth: int
) -> Mapping[Any, Any] | None:
    if is_one(raw):
        return raw
    inner = (raw[key] for key in (*_EMA_KEYS, *_KEYS) if depth < _DEEPEST and isinstance(raw.get(key), Mapping))
    return next((one for found in inner if (one := _checkpoint(found, is_one, depth + 1)) is not None), None)


def _states(raw: Mapping[Any, Any], where: str, depth: int) -> Iterator[FoundState]:
    if depth < _DEEPEST:
        for key in (*_EMA_KEYS, *_KEYS):
            if isinstance(raw.get(key), Mapping):
                yield from _states(raw[key], f"{where}{key}/", depth + 1)
    yield from _stripped({str(name): value for name, value in raw.items()}, where, depth)


def _stripped(values: dict[str, Any], where: str, depth: int) -> Iterator[FoundState]:
    if depth < _DEEPEST:
        for prefix in (*_EMA_PREFIXES, *_PREFIXES):
            inner = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
            if inner:
                yield from _stripped(inner, where + prefix, depth + 1)
    yield FoundState(where.removesuffix("/"), _without_infixes(values), nested=bool(where))


def _without_infixes(values: dict[str, Any]) -> dict[str, Any]:
    """`values` without the wrappers of sub-modules in their names; as they are if two would get one name."""
    plain = {_without_infix(name): value for name, value in values.items()}
    return plain if len(plain) == len(values) else values


def _without_infix(name: str) -> str:
    first, *rest = name.split(".")  # what a name starts with is a prefix, taken off of all names or of none
    return ".".join((first, *(part for part in rest if part not in _INFIXES)))
