"""Masked-attention query decoder of Mask2Former (Cheng et al. 2022): queries look where their last mask was."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from .config import QueryDecoderConfig
from .pixel_decoder import LEVELS
from .position import sine_position

MASKED = -1e4  # attention bias of a forbidden place: exp() of it is 0 in FP32, and FP16 holds it


@dataclass(frozen=True)
class QueryState:
    """What the queries are after some number of decoder layers."""

    embedding: Tensor  # (B, Q, C), normalised by the decoder norm
    mask_logits: Tensor  # (B, Q, H/4, W/4)


class Attention(nn.Module):
    """Multi-head attention with an additive bias, written out so that it exports the same everywhere."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        """query (B, Q, C), key and value (B, N, C), bias (B, 1 or heads, Q, N) -> (B, Q, C)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            self._split(nn.functional.linear(x, weights[i], biases[i])) for i, x in enumerate((query, key, value))
        )
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if bias is not None:
            logits = logits + bias
        mixed = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
        result: Tensor = self.out_proj(mixed)
        return result

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward; normalised after each."""

    def __init__(self, channels: int, config: QueryDecoderConfig) -> None:
        super().__init__()
        self.cross_attn = Attention(channels, config.heads)
        self.cross_norm = nn.LayerNorm(channels)
        self.self_attn = Attention(channels, config.heads)
        self.self_norm = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, config.ffn)
        self.linear2 = nn.Linear(config.ffn, channels)
        self.ffn_norm = nn.LayerNorm(channels)
        for layer in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(layer.weight)

    def forward(
        self, queries: Tensor, query_position: Tensor, memory: Tensor, position: Tensor, bias: Tensor
    ) -> Tensor:
        """queries (B, Q, C), memory (B, N, C), position (N, C), bias (B, 1, Q, N) -> (B, Q, C)."""
        looked = self.cross_attn(queries + query_position, memory + position, memory, bias)
        queries = self.cross_norm(queries + looked)
        placed = queries + query_position
        queries = self.self_norm(queries + self.self_attn(placed, placed, queries))
        queries = self.ffn_norm(queries + self.linear2(torch.relu(self.linear1(queries))))
        return queries


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, count: int) -> None:
        super().__init__()
        widths = [inputs, *[hidden] * (count - 1), outputs]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        for index, layer in enumerate(self.layers):
            x = layer(torch.relu(x) if index else x)
        return x


class QueryDecoder(nn.Module):
    """Learned queries become masks, one step a layer; the state after every step can be classified."""

    def __init__(self, config: QueryDecoderConfig, channels: int, mask_channels: int) -> None:
        super().__init__()
        self.query_feat = nn.Parameter(torch.randn(config.queries, channels))
        self.query_embed = nn.Parameter(torch.randn(config.queries, channels))
        self.level_embed = nn.Parameter(torch.randn(LEVELS, channels))
        self.layers = nn.ModuleList(DecoderLayer(channels, config) for _ in range(config.layers))
        self.decoder_norm = nn.LayerNorm(channels)
        self.mask_embed = MLP(channels, channels, mask_channels, 3)
        # Between layers a mask is only needed at the next layer's size. To resize the features once and multiply then
        # is the same as to multiply and resize every mask, but for rounding, at a tenth of the cost. Exported graphs do
        # so.
        self.resize_features = False

    def forward(self, mask_features: Tensor, levels: list[Tensor], depth: int | None = None) -> list[QueryState]:
        """mask_features (B, M, H/4, W/4), levels of the pixel decoder -> depth + 1 states, one before any layer."""
        batch, channels = levels[0].shape[:2]
        memories, positions = [], []
        for index, level in enumerate(levels):
            memories.append(level.flatten(2).transpose(1, 2) + self.level_embed[index])
            positions.append(sine_position(int(level.shape[2]), int(level.shape[3]), channels, level.device))
        sizes = [(int(level.shape[2]), int(level.shape[3])) for level in levels]
        resized = [_resize(mask_features, size) for size in sizes] if self.resize_features else []
        queries = self.query_feat[None].expand(batch, -1, -1)
        embedding, state = self._state(queries, mask_features)
        states = [state]
        for index, layer in enumerate(self.layers[:depth]):
            which = index % LEVELS
            if self.resize_features:
                masks = _masks(embedding, resized[which])
            else:
                masks = _resize(state.mask_logits.detach(), sizes[which])
            queries = layer(queries, self.query_embed, memories[which], positions[which], attention_bias(masks))
            embedding, state = self._state(queries, mask_features)
            states.append(state)
        return states

    def _state(self, queries: Tensor, mask_features: Tensor) -> tuple[Tensor, QueryState]:
        """Mask embedding (B, Q, M) of the queries, and what they are."""
        normed = self.decoder_norm(queries)
        embedding = self.mask_embed(normed)
        return embedding, QueryState(normed, _masks(embedding, mask_features))


def attention_bias(mask_logits: Tensor) -> Tensor:
    """Forbid places where the mask is below one half; an empty mask forbids nothing.

    (B, Q, H, W) -> (B, 1, Q, H * W).
    """
    outside = (mask_logits < 0).flatten(2).to(mask_logits.dtype)
    empty = (outside.mean(-1, keepdim=True) == 1).to(mask_logits.dtype)
    return (outside * (1 - empty) * MASKED)[:, None]


def _masks(embedding: Tensor, features: Tensor) -> Tensor:
    """(B, Q, M), (B, M, H, W) -> logits (B, Q, H, W)."""
    return (embedding @ features.flatten(2)).view(*embedding.shape[:2], *features.shape[2:])


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
