"""The last block of CLIP's vision transformer, computed so that patches keep what they show.

Both recipes leave out its residual and its MLP, and let a patch attend to patches with similar keys.

NACLIP   "Pay Attention to Your Neighbours", Hajimiri et al., WACV 2025
SC-CLIP  "Self-Calibrated CLIP", Bai et al., 2024
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..text.clip_text import ResidualBlock

MASKED = -1e4  # attention logit of a pair that is left out: exp() of it is 0 in FP32, and FP16 holds it


class NaclipHead(nn.Module):
    """Key-key attention with a Gaussian around each patch."""

    SIGMA = 5.0  # in patches

    nearness: Tensor  # (P, 1 + P)

    def __init__(self, block: ResidualBlock, grid: tuple[int, int]) -> None:
        super().__init__()
        self.block = block
        places = _places(grid)
        distance = (places[:, None] - places[None]).square().sum(-1)
        gauss = torch.exp(-distance / (2 * self.SIGMA**2))
        self.register_buffer("nearness", nn.functional.pad(gauss, (1, 0)), persistent=False)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Tokens (B, 1 + P, C) after each block but the last -> patches (B, P, C)."""
        keys, values = key_values(self.block, levels[-1])
        logits = keys[:, :, 1:] @ keys.transpose(-1, -2) + self.nearness
        return merge_heads(self.block, logits.softmax(-1) @ values)


class ScClipHead(nn.Module):
    """Outlying patches are replaced, patches averaged over similar ones, and earlier blocks added.

    The published code counts blocks from 0; the constants here count tokens after blocks from 1.
    """

    NEIGHBOURS = 30  # of the local outlier factor
    QUANTILE = 0.95  # of the factors; patches above it are outliers
    SIMILAR_FROM = 9  # block whose patches tell which are alike, before the last block
    SIMILAR_AFTER = 4  # and after it
    FUSED = slice(4, 11)  # blocks whose tokens are added: 4 to 10
    LEAST = 0.4  # cosine below which two patches have nothing in common
    SHARPNESS = 3.0  # factor of the cosines as attention logits
    CLASS_TOKEN = 0.3  # its share, added to every patch
    BLOCKS = FUSED.stop  # that a model has at least: the fused ones and the last

    around: Tensor  # (P, P), 1 for the patches next to each other, diagonals included

    def __init__(self, block: ResidualBlock, grid: tuple[int, int]) -> None:
        super().__init__()
        self.block = block
        places = _places(grid)
        distance = (places[:, None] - places[None]).abs().amax(-1)
        self.register_buffer("around", (distance == 1).float(), persistent=False)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Tokens (B, 1 + P, C) after each block but the last -> patches (B, P, C)."""
        last = levels[-1]
        outlier = outliers(last[:, 1:], self.NEIGHBOURS, self.QUANTILE)
        similar = cosines(self._repaired(levels[self.SIMILAR_FROM - 1][:, 1:], outlier))
        weights = attention_of(similar, self.SHARPNESS)
        finally_similar = averaging(cosines(levels[self.SIMILAR_AFTER - 1][:, 1:]), self.LEAST)

        patches = averaging(similar, self.LEAST) @ self._repaired(last[:, 1:], outlier)
        patches = finally_similar @ (self._attend(patches, weights) + self.CLASS_TOKEN * last[:, :1])
        fused = torch.stack(list(levels[self.FUSED.start - 1 : self.FUSED.stop - 1])).sum(0)
        detail = self._attend(fused[:, 1:], weights) + self.CLASS_TOKEN * fused[:, :1]
        return patches + finally_similar @ detail

    def _attend(self, patches: Tensor, weights: Tensor) -> Tensor:
        """The last block's values, half by `weights` (B, P, P), half by key-key attention: (B, P, C) -> (B, P, C)."""
        keys, values = key_values(self.block, patches)
        own = (keys @ keys.transpose(-1, -2)).softmax(-1)
        return merge_heads(self.block, (0.5 * (weights[:, None] + own)) @ values)

    def _repaired(self, patches: Tensor, outlier: Tensor) -> Tensor:
        """Outliers (B, P) of patches (B, P, C) replaced by the mean of the others next to them, where there are any."""
        weights = self.around * (1 - outlier)[:, None]
        count = weights.sum(-1, keepdim=True)
        mean = (weights @ patches) / count.clamp(min=1)
        replaced = outlier[..., None] * (count > 0).to(outlier.dtype)
        return patches + replaced * (mean - patches)


def key_values(block: ResidualBlock, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Keys, divided by the fourth root of their length so that key-key products are scaled, and values, (B, heads, L, d)."""
    batch, length, width = tokens.shape
    heads = block.attn.heads
    # The queries, the first third of the projection, are not needed.
    weight, bias = block.attn.in_proj_weight[width:], block.attn.in_proj_bias[width:]
    mixed = nn.functional.linear(block.ln_1(tokens), weight, bias)
    keys, values = mixed.view(batch, length, 2, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
    return keys * keys.shape[-1] ** -0.25, values


def merge_heads(block: ResidualBlock, values: Tensor) -> Tensor:
    """(B, heads, L, d) -> (B, L, C), through the block's output projection."""
    result: Tensor = block.attn.out_proj(values.transpose(1, 2).flatten(2))
    return result


def outliers(patches: Tensor, neighbours: int, quantile: float) -> Tensor:
    """1 for the patches (B, P, C) whose local outlier factor is above the quantile of their image, else 0: (B, P).

    With d(i) the squared distance of patch i to its `neighbours`-th nearest other patch, the factor of i is the mean of
    d(i) / d(j) over its nearest patches j.
    """
    count = patches.shape[1]
    near = min(neighbours, count - 1)
    centred = patches - patches.mean(1, keepdim=True)  # distances stay, and large common parts do not cancel
    length = centred.square().sum(-1)
    distance = length[:, :, None] + length[:, None] - 2 * (centred @ centred.transpose(-1, -2))
    itself = torch.eye(count, dtype=patches.dtype, device=patches.device) * 1e30
    nearest = (distance + itself).topk(near, largest=False)
    reach = nearest.values[:, :, -1].clamp(min=1e-12)
    others = reach.gather(1, nearest.indices.flatten(1)).view_as(nearest.values)
    factor = (reach[:, :, None] / others).mean(-1)
    place = quantile * (count - 1)
    below = int(place)  # the quantile lies between this one and the next, counted from the smallest
    largest = factor.topk(count - below).values
    low, high = largest[:, -1:], largest[:, max(count - below - 2, 0) :][:, :1]
    return (factor > low + (place - below) * (high - low)).to(patches.dtype)


def cosines(patches: Tensor) -> Tensor:
    """Cosine of every pair of patches (B, P, C): (B, P, P)."""
    unit = nn.functional.normalize(patches, dim=-1)
    return unit @ unit.transpose(-1, -2)


def averaging(similar: Tensor, least: float) -> Tensor:
    """Cosines (B, P, P) as weights of an average over the patches that are at least so much alike."""
    kept = similar * (similar >= least).to(similar.dtype)
    return kept / (kept.sum(-1, keepdim=True) + 1e-6)


def attention_of(similar: Tensor, sharpness: float) -> Tensor:
    """Cosines (B, P, P) as attention: patches less alike than the mean of all pairs are left out."""
    logits = sharpness * (similar - similar.mean((1, 2), keepdim=True))
    # A patch is always alike to itself, but for rounding; were all of a row left out, it would attend to all.
    return (logits + (logits < 0).to(logits.dtype) * MASKED).softmax(-1)


def _places(grid: tuple[int, int]) -> Tensor:
    """Row and column (P, 2) of every patch."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack((rows, columns), -1).flatten(0, 1).float()
