"""Refuses weights that no model can compute with: NaN, infinities, complex numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...bundle.errors import CheckpointError


def check_weights(state: Mapping[str, Any], origin: str) -> None:
    """Raise `CheckpointError` that names the first weight with NaN, an infinity or complex numbers.

    `state` maps names to tensors; `origin` is the file, for the message.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor):
            continue
        if value.is_complex():
            raise CheckpointError(
                f"{origin}: {name} holds complex numbers ({_type(value)}), expected real ones; save the checkpoint "
                "with real weights"
            )
        if not value.is_floating_point() or bool(torch.isfinite(value).all()):
            continue
        bad = "NaN" if bool(torch.isnan(value).any()) else "infinite values"
        count = sum(
            1
            for other in state.values()
            if isinstance(other, Tensor) and other.is_floating_point() and not bool(torch.isfinite(other).all())
        )
        more = f" and {count - 1} more" if count > 1 else ""
        raise CheckpointError(
            f"{origin}: the checkpoint holds {bad} in {name}{more}: training diverged; use an earlier checkpoint, or "
            "train again with a smaller learning rate"
        )


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
