"""ConvNeXt (Liu et al. 2022) as the image tower of LAION's CLIP. Parameter names are those of the published weights."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from .features import Features

EPS = 1e-6  # of every layer norm


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A 7x7 depthwise convolution, then a feed-forward network over the channels, scaled and added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(channels, 4 * channels), act=nn.GELU(), fc2=nn.Linear(4 * channels, channels))
        )
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        y = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        change: Tensor = self.mlp(y) * self.gamma
        return x + change.permute(0, 3, 1, 2)


class ConvNeXtStage(nn.Module):
    """Blocks at one stride; every stage but the first halves the map before them."""

    def __init__(self, inputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if inputs != channels:
            self.downsample = nn.Sequential(ChannelNorm(inputs), nn.Conv2d(inputs, channels, 2, stride=2))
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels, H / 2, W / 2), the first stage without the halving."""
        result: Tensor = self.blocks(self.downsample(x))
        return result


class ConvNeXt(nn.Module):
    """The trunk without its head: `layers` blocks in stages of `width`, 2, 4 and 8 times `width` channels."""

    def __init__(self, layers: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.channels = tuple(width * 2**stage for stage in range(4))
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, stride=4), ChannelNorm(width))
        inputs = (width, *self.channels)
        self.stages = nn.ModuleList(
            ConvNeXtStage(inputs[stage], self.channels[stage], blocks) for stage, blocks in enumerate(layers)
        )

    def forward(self, x: Tensor) -> Features:
        """Normalised RGB (B, 3, H, W) -> res2..res5."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[0], maps[1], maps[2], maps[3]
