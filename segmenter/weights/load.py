"""Weights into a model, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...bundle.errors import CheckpointError
from .checks import check_weights

_SHOWN = 5  # names of one problem in a message


def load_weights(model: nn.Module, state: Mapping[str, Any], origin: str) -> None:
    """Load every parameter, or raise `CheckpointError` for those missing, unknown, of another shape or not finite."""
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{origin}: parameter {name} is a {type(value).__name__}, expected a tensor")
    check_weights(state, origin)
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    unknown = sorted(set(state) - set(own))
    shapes = sorted(name for name in set(own) & set(state) if tuple(own[name].shape) != tuple(state[name].shape))
    for problem, names in (("missing", missing), ("unknown", unknown), ("of another shape", shapes)):
        if names:
            raise CheckpointError(
                f"{origin}: parameters {problem}: {_listed(names)}; expected those of {type(model).__name__}"
            )
    model.load_state_dict(state)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
