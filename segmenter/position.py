"""Sine position embedding of Mask2Former: one normalised wave set for rows, one for columns."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_position(height: int, width: int, channels: int, device: torch.device | None = None) -> Tensor:
    """(height * width, channels) float32: the first half of the channels tells the row, the second the column."""
    half = channels // 2
    index = torch.arange(half, dtype=torch.float32, device=device)
    period = 10000.0 ** (2 * torch.div(index, 2, rounding_mode="floor") / half)

    def wave(length: int) -> Tensor:
        place = torch.arange(1, length + 1, dtype=torch.float32, device=device) / (length + 1e-6) * (2 * math.pi)
        angle = place[:, None] / period
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1)

    rows = wave(height)[:, None, :].expand(height, width, half)
    columns = wave(width)[None, :, :].expand(height, width, half)
    return torch.cat((rows, columns), 2).reshape(height * width, channels)
