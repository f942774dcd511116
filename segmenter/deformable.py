"""Multi-scale deformable attention (Zhu et al. 2021) in two formulations with equal results.

`gridsample` is what most runtimes run fastest; `gather` spells the bilinear sampling out, for compilers that get
GridSample wrong. Both take the same weights.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

Formulation = Literal["gridsample", "gather"]
Sizes = tuple[tuple[int, int], ...]  # height, width of each level


class DeformableAttention(nn.Module):
    """Every token looks at a few learned points of every level."""

    def __init__(self, channels: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self.levels, self.heads, self.points = levels, heads, points
        self.formulation: Formulation = "gridsample"
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self._reset()

    def _reset(self) -> None:
        # Heads start by looking in different directions, points at growing distances.
        angle = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        direction = torch.stack((angle.cos(), angle.sin()), -1)
        direction = direction / direction.abs().max(-1, keepdim=True).values
        reach = torch.arange(1, self.points + 1, dtype=torch.float32)
        grid = direction[:, None, None, :] * reach[None, None, :, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(grid.expand(-1, self.levels, -1, -1).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, reference: Tensor, value: Tensor, sizes: Sizes) -> Tensor:
        """Sample `value` around `reference`.

        query (B, N, C) with position added; reference (N, 2) x, y in 0..1; value (B, N, C) with N = sum of H * W over
        `sizes`. Returns (B, N, C).
        """
        batch, tokens, channels = query.shape
        heads, points = self.heads, self.points
        values = self.value_proj(value).view(batch, tokens, heads, channels // heads)
        locations = self._locations(query, reference, sizes)
        weights = self._weights(query)
        sample = _sample_grid if self.formulation == "gridsample" else _sample_gather
        output = torch.zeros(())
        start = 0
        for level, (height, width) in enumerate(sizes):
            maps = values[:, start : start + height * width]
            start += height * width
            place = locations[:, level].permute(0, 2, 3, 4, 1)  # (B, heads, P, N, 2)
            share = weights[:, :, level * points : (level + 1) * points]
            part = sample(maps, place, share, height, width)
            output = part if level == 0 else output + part
        result: Tensor = self.output_proj(output.flatten(1, 2).transpose(1, 2))
        return result

    def _weights(self, query: Tensor) -> Tensor:
        """Shares of the points of all levels, which sum to one: (B, heads, levels * P, N)."""
        if self.levels * self.points != 2:
            logits: Tensor = self.attention_weights(query).unflatten(-1, (self.heads, -1))
            return logits.softmax(-1).permute(0, 2, 3, 1)
        # Of two, the softmax is a sigmoid of the difference, which costs a tenth; the tokens come last as below.
        weight, bias = (
            part[0::2] - part[1::2] for part in (self.attention_weights.weight, self.attention_weights.bias[:, None])
        )
        first = (weight @ query.transpose(1, 2) + bias).sigmoid()
        return torch.stack((first, 1 - first), 2)

    def _locations(self, query: Tensor, reference: Tensor, sizes: Sizes) -> Tensor:
        """Where to sample, x and y in -1..1 over the level: (B, levels, 2, heads, P, N).

        Offsets are in pixels of the level. Their scale goes into the weights, which a graph compiler folds, and the
        tokens come last, so that adding the reference runs over long rows: on a CPU this is a third of the layer.
        """
        heads, levels, points = self.heads, self.levels, self.points
        size = torch.tensor([[width, height] for height, width in sizes], dtype=query.dtype, device=query.device)
        scale = (2 / size)[:, :, None, None, None]

        def rearranged(x: Tensor) -> Tensor:
            return (x.view(heads, levels, points, 2, -1).permute(1, 3, 0, 2, 4) * scale).flatten(0, 3)

        weight = rearranged(self.sampling_offsets.weight)
        bias = rearranged(self.sampling_offsets.bias)
        offsets = weight @ query.transpose(1, 2) + bias
        offsets = offsets.view(query.shape[0], levels, 2, heads * points, -1)
        place = offsets + (reference.T * 2 - 1)[None, None, :, None, :]
        return place.view(query.shape[0], levels, 2, heads, points, -1)


def pixel_centres(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(H * W, 2) x, y of each pixel's centre, in 0..1."""
    y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
    return torch.stack((x[None, :].expand(height, width), y[:, None].expand(height, width)), -1).reshape(-1, 2)


def _sample_grid(values: Tensor, place: Tensor, weights: Tensor, height: int, width: int) -> Tensor:
    """values (B, H*W, heads, d), place (B, heads, P, N, 2) in -1..1, weights (B, heads, P, N) -> (B, heads, d, N).

    The points come before the tokens, so that their sum runs over long rows.
    """
    batch, _, heads, depth = values.shape
    maps = values.permute(0, 2, 3, 1).reshape(batch * heads, depth, height, width)
    grid = place.flatten(0, 1)
    sampled = nn.functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    mixed = (sampled * weights.flatten(0, 1)[:, None]).sum(2)
    return mixed.view(batch, heads, depth, -1)


def _sample_gather(values: Tensor, place: Tensor, weights: Tensor, height: int, width: int) -> Tensor:
    """The same as `_sample_grid`, with the four corners fetched by index."""
    batch, _, heads, depth = values.shape
    points, tokens = place.shape[2:4]
    rows = values.permute(0, 2, 1, 3)  # (B, heads, H*W, d)
    x = ((place[..., 0] + 1) * width - 1).flatten(2) / 2
    y = ((place[..., 1] + 1) * height - 1).flatten(2) / 2
    left, top = x.floor(), y.floor()
    share = weights.flatten(2)
    mixed = torch.zeros(())
    for corner, (dy, dx) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        column, row = left + dx, top + dy
        inside = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1)
        weight = (1 - (x - column).abs()) * (1 - (y - row).abs()) * inside.to(x.dtype) * share
        index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        index = index.to(torch.int64)[..., None].expand(-1, -1, -1, depth)
        part = rows.gather(2, index) * weight[..., None]
        mixed = part if corner == 0 else mixed + part
    return mixed.view(batch, heads, points, tokens, depth).sum(2).transpose(2, 3)
