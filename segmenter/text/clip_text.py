"""CLIP's text transformer (Radford et al. 2021) in plain torch. Parameter names are open_clip's, and OpenAI's."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from ...bundle.errors import CheckpointError, OvsError
from ..config import TextConfig
from ..weights.checks import check_weights
from ..weights.load import load_weights

FUTURE = -1e4  # attention bias of a later token: exp() of it is 0 in FP32, and FP16 holds it

_PARTS = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.", "text_projection")


class SelfAttention(nn.Module):
    """Multi-head self-attention written out, with `nn.MultiheadAttention`'s parameters."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (N, L, C), bias (L, L) of the attention logits -> (N, L, C)."""
        batch, tokens, width = x.shape
        mixed = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = mixed.view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        attention = (logits if bias is None else logits + bias).softmax(-1)
        result: Tensor = self.out_proj((attention @ v).transpose(1, 2).flatten(2))
        return result


class GELU(nn.Module):
    """The activation; `quick` is the sigmoid approximation OpenAI trained with, which differs by up to 0.02."""

    def __init__(self, *, quick: bool) -> None:
        super().__init__()
        self.quick = quick

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return x * torch.sigmoid(1.702 * x) if self.quick else nn.functional.gelu(x)


class ResidualBlock(nn.Module):
    """Attention and feed-forward network, each normalised before."""

    def __init__(self, width: int, heads: int, *, quick_gelu: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, 4 * width),
                gelu=GELU(quick=quick_gelu),
                c_proj=nn.Linear(4 * width, width),
            )
        )

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (N, L, C), bias (L, L) of the attention logits -> (N, L, C)."""
        x = x + self.attn(self.ln_1(x), bias)
        x = x + self.mlp(self.ln_2(x))
        return x


class Transformer(nn.Module):
    """The stack of blocks; a module of its own because the parameters' names have it."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            ResidualBlock(config.width, config.heads, quick_gelu=config.quick_gelu) for _ in range(config.layers)
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (N, L, C), bias (L, L) -> (N, L, C)."""
        for block in self.resblocks:
            x = block(x, bias)
        return x


class ClipText(nn.Module):
    """Token ids to text vectors: the state at the end-of-text token, projected."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context_length, config.width) * 0.01)
        self.transformer = Transformer(config)
        self.ln_final = nn.LayerNorm(config.width)
        self.text_projection = nn.Parameter(torch.randn(config.width, config.dim) * config.width**-0.5)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids int64 (N, L), L at most the context -> (N, D) of any length. What follows the end is unseen."""
        length = input_ids.shape[1]
        place = torch.arange(length, device=input_ids.device)
        bias = (place[None] > place[:, None]).to(self.positional_embedding.dtype) * FUTURE
        x = self.token_embedding(input_ids) + self.positional_embedding[:length]
        x = self.ln_final(self.transformer(x, bias))
        # The end-of-text token has the largest id. A product with its one-hot row picks its state.
        end = (place[None] == input_ids.argmax(-1, keepdim=True)).to(x.dtype)
        result: Tensor = (end[:, None] @ x)[:, 0] @ self.text_projection
        return result


def text_state(clip_state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text tower's part of a whole CLIP's state dict."""
    return {name: value for name, value in clip_state.items() if name.startswith(_PARTS)}


def clip_text(config: TextConfig, state: dict[str, Tensor], origin: str) -> ClipText:
    """The encoder with the weights of `state`, frozen, in eval mode; raises `CheckpointError`."""
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{origin}: its text encoder is not a dict of tensors; write the checkpoint again")
    check_weights(state, origin)  # before .float(), which would drop an imaginary part
    model = ClipText(config)
    load_weights(model, {name: value.float() for name, value in state.items()}, origin)
    return model.eval().requires_grad_(requires_grad=False)


def load_clip_text(config: TextConfig, tag: str | None = None) -> ClipText:
    """The encoder with pretrained weights through open_clip, which downloads them once; `tag` is architecture/weights.

    By default the text tower that belongs to the backbone of the presets, told by its dimension. Raises
    `CheckpointError` when the weights cannot be had.
    """
    tag = tag or ("RN101/openai" if config.dim == 512 else "RN50/openai")
    architecture, _, weights = tag.partition("/")
    try:
        import open_clip

        model = open_clip.create_model(architecture, pretrained=weights)
        return clip_text(config, text_state(model.state_dict()), tag)
    except OvsError:
        raise
    except Exception as error:  # the hub's client, the network and open_clip raise dozens of unrelated types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"the weights of CLIP {tag} cannot be loaded ({reason[:160]}); connect to the network once, or use a "
            "checkpoint that holds its text encoder"
        ) from error
