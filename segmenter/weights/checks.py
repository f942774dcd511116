"""Refuses weights that no model can compute with: NaN, infinities, complex numbers, tensors that are not dense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...bundle.errors import CheckpointError


def check_weights(state: Mapping[str, Any], origin: str) -> None:
    """Raise `CheckpointError` that names the first weight with NaN, an infinity or complex numbers, or not dense.

    `state` maps names to tensors; `origin` is the file, for the message.
    """
    check_dense(state, origin)
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


def check_dense(state: Mapping[str, Any], origin: str) -> None:
    """Raise `CheckpointError` that names the first tensor that is sparse, quantised or without values."""
    for name, value in state.items():
        if not isinstance(value, Tensor):
            continue
        if value.is_meta:
            found = "tensors without values (meta device)"
        elif value.is_quantized:
            found = f"quantised tensors ({_type(value)})"
        elif value.layout is not torch.strided:
            found = "sparse tensors"
        elif value.device.type != "cpu":
            found = f"tensors on {value.device}"
        else:
            continue
        raise CheckpointError(f"{origin} holds {found}, such as {name}; save dense CPU tensors")


def _type(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
