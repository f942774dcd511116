"""Pixel decoder of Mask2Former: deformable attention mixes the coarse levels, FPN steps reach stride 4."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import PixelDecoderConfig
from .deformable import DeformableAttention, Sizes, pixel_centres
from .features import Features
from .position import sine_position

LEVELS = 3  # token levels handed to the queries: strides 32, 16, 8, in this order everywhere


class EncoderLayer(nn.Module):
    """Deformable self-attention over all levels, then a feed-forward network; normalised after each."""

    def __init__(self, config: PixelDecoderConfig) -> None:
        super().__init__()
        channels = config.channels
        self.self_attn = DeformableAttention(channels, config.attention_levels, config.heads, config.points)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, config.ffn)
        self.linear2 = nn.Linear(config.ffn, channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, position: Tensor, reference: Tensor, sizes: Sizes) -> Tensor:
        """tokens (B, N, C), position (N, C), reference (N, 2) -> (B, N, C)."""
        tokens = self.norm1(tokens + self.self_attn(tokens + position, reference, tokens, sizes))
        tokens = self.norm2(tokens + self.linear2(torch.relu(self.linear1(tokens))))
        return tokens


class ConvNorm(nn.Module):
    """Convolution without bias, then a norm; a separable one costs a ninth at the same kernel."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int, *, separable: bool = False) -> None:
        super().__init__()
        self.depthwise: nn.Module = nn.Identity()
        if separable:
            self.depthwise = nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs, bias=False)
            kernel = 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = _norm(groups, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        result: Tensor = self.norm(self.conv(self.depthwise(x)))
        return result


class FpnStep(nn.Module):
    """One step to the next finer level: lateral connection plus the upsampled coarser level, smoothed."""

    def __init__(self, lateral: int, coarse: int, outputs: int, config: PixelDecoderConfig) -> None:
        super().__init__()
        self.lateral = ConvNorm(lateral, outputs, 1, config.norm_groups)
        # Narrowed before it is upsampled: a quarter of the work.
        self.narrow: nn.Module = nn.Conv2d(coarse, outputs, 1) if coarse != outputs else nn.Identity()
        self.output = ConvNorm(outputs, outputs, 3, config.norm_groups, separable=config.separable)

    def forward(self, feature: Tensor, coarse: Tensor) -> Tensor:
        """feature (B, lateral, H, W), coarse (B, coarse, H/2, W/2) -> (B, outputs, H, W)."""
        lateral = self.lateral(feature)
        up = nn.functional.interpolate(
            self.narrow(coarse), size=lateral.shape[2:], mode="bilinear", align_corners=False
        )
        return torch.relu(self.output(lateral + up))


class PixelDecoder(nn.Module):
    """Backbone features in; mask features at stride 4 and three token levels for the queries out."""

    def __init__(self, config: PixelDecoderConfig, inputs: tuple[int, ...]) -> None:
        super().__init__()
        channels, attended = config.channels, config.attention_levels
        coarse_to_fine = inputs[::-1]
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(count, channels, 1), _norm(config.norm_groups, channels))
            for count in coarse_to_fine[:attended]
        )
        self.level_embed = nn.Parameter(torch.randn(attended, channels))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        # Every step but the last feeds the queries too, and so keeps their width.
        self.fpn = nn.ModuleList(
            FpnStep(count, channels, config.mask_channels if count == coarse_to_fine[-1] else channels, config)
            for count in coarse_to_fine[attended:]
        )
        self.mask_features = nn.Conv2d(config.mask_channels, config.mask_channels, 1)

    def forward(self, features: Features) -> tuple[Tensor, list[Tensor]]:
        """res2..res5 -> mask features (B, M, H/4, W/4), levels [(B, C, H/32, W/32), /16, /8]."""
        coarse_to_fine = features[::-1]
        maps = [project(x) for project, x in zip(self.input_proj, coarse_to_fine, strict=False)]
        sizes = tuple((int(x.shape[2]), int(x.shape[3])) for x in maps)
        device = maps[0].device
        position = torch.cat(
            [
                sine_position(*size, maps[0].shape[1], device) + self.level_embed[index]
                for index, size in enumerate(sizes)
            ]
        )
        reference = torch.cat([pixel_centres(*size, device) for size in sizes])
        tokens = torch.cat([x.flatten(2).transpose(1, 2) for x in maps], 1)
        for layer in self.layers:
            tokens = layer(tokens, position, reference, sizes)
        levels = []
        start = 0
        for height, width in sizes:
            part = tokens[:, start : start + height * width]
            start += height * width
            levels.append(part.transpose(1, 2).reshape(tokens.shape[0], -1, height, width))
        for step, feature in zip(self.fpn, coarse_to_fine[len(maps) :], strict=True):
            levels.append(step(feature, levels[-1]))
        return self.mask_features(levels[-1]), levels[:LEVELS]


def _norm(groups: int, channels: int) -> nn.Module:
    return nn.GroupNorm(groups, channels) if groups else nn.BatchNorm2d(channels)
