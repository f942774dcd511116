"""CLIP's vision transformer (Radford et al. 2021) up to its last block. Parameter names are open_clip's and OpenAI's."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ..text.clip_text import ResidualBlock
from .config import ClipVisionConfig

# Both recipes pass (side + 0.1) / trained side to the resize of the positions, and it stays the step of the sampling.
_POSITION_OFFSET = 0.1


class VisionBlocks(nn.Module):
    """The stack of blocks; a module of its own because the parameters' names have it."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            ResidualBlock(config.width, config.heads, quick_gelu=config.quick_gelu) for _ in range(config.layers)
        )


class VisionTransformer(nn.Module):
    """Pixels to the tokens that the dense last block starts from."""

    def __init__(self, config: ClipVisionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv2d(3, width, config.patch, stride=config.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(config.grid**2 + 1, width) * width**-0.5)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = VisionBlocks(config)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, config.dim) * width**-0.5)

    @property
    def last(self) -> ResidualBlock:
        """The block that a recipe computes in its own way."""
        return cast(ResidualBlock, self.transformer.resblocks[-1])

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings (1 + h * w, C) of a grid of h x w patches: the class token's, then row by row."""
        side = self.config.grid
        if grid == (side, side):
            return self.positional_embedding
        square = self.positional_embedding[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        scale = [(length + _POSITION_OFFSET) / side for length in grid]
        resized = nn.functional.interpolate(
            square, scale_factor=scale, mode="bicubic", align_corners=False, recompute_scale_factor=False
        )
        return torch.cat((self.positional_embedding[:1], resized.flatten(2)[0].T))

    def embed(self, pixels: Tensor, positions: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W), positions (1 + P, C) -> tokens (B, 1 + P, C), the class token first."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2) + positions[1:]
        first = (self.class_embedding + positions[0]).expand(patches.shape[0], 1, -1)
        tokens: Tensor = self.ln_pre(torch.cat((first, patches), 1))
        return tokens

    def levels(self, tokens: Tensor) -> list[Tensor]:
        """Tokens (B, 1 + P, C) after each block but the last."""
        found = []
        for block in list(self.transformer.resblocks)[:-1]:
            tokens = block(tokens)
            found.append(tokens)
        return found

    def project(self, tokens: Tensor) -> Tensor:
        """(B, P, C) -> vectors (B, P, D) in the text space, of any length."""
        vectors: Tensor = self.ln_post(tokens) @ self.proj
        return vectors
