"""Text encoders behind one interface: names in, unit vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..config import TextConfig
from .clip_text import clip_text, load_clip_text
from .minilm import load_minilm
from .tokenizers import clean_clip, clip_tokenizer, minilm_tokenizer

_BATCH = 64  # texts of one run


class TorchTextEncoder:
    """A frozen encoder with its tokenizer and prompt templates."""

    def __init__(self, config: TextConfig, model: nn.Module, tokenizer: Tokenizer) -> None:
        self.config, self.model, self.tokenizer = config, model.eval().requires_grad_(requires_grad=False), tokenizer

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the model's arguments, int64 (N, L) each."""
        return ("input_ids",) if self.config.kind == "clip" else ("input_ids", "attention_mask")

    @property
    def cleaning(self) -> Literal["none", "clip"]:
        """What text goes through before the tokenizer."""
        return "clip" if self.config.kind == "clip" else "none"

    @torch.no_grad()
    def encode(self, names: Sequence[str]) -> Tensor:
        """(N, D) unit vectors: each prompt's vector made unit, averaged over the templates, made unit again."""
        # Not str.format: a name may hold braces.
        prompts = [template.replace("{}", name) for template in self.config.templates for name in names]
        vectors = torch.zeros(len(prompts), self.config.dim)
        for start in range(0, len(prompts), _BATCH):
            found = self.model(*self.tokenize(prompts[start : start + _BATCH]))
            vectors[start : start + _BATCH] = nn.functional.normalize(found.float(), dim=-1)
        each = vectors.view(len(self.config.templates), len(names), self.config.dim)
        return nn.functional.normalize(each.sum(0), dim=-1)

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, ...]:
        """Inputs of the model, int64 (N, L): token ids, and for a sentence encoder their mask."""
        encodings = self.tokenizer.encode_batch([self.clean(text) for text in texts])
        available = {
            "input_ids": [encoding.ids for encoding in encodings],
            "attention_mask": [encoding.attention_mask for encoding in encodings],
        }
        return tuple(torch.tensor(available[name]) for name in self.inputs)

    def clean(self, text: str) -> str:
        """What has to happen before the tokenizer."""
        return clean_clip(text) if self.cleaning == "clip" else text


def load_text_encoder(config: TextConfig, state: dict[str, Any] | None = None, origin: str = "") -> TorchTextEncoder:
    """The encoder of a config; `state` holds a CLIP text tower's weights when the checkpoint `origin` brings its own.

    Raises `CheckpointError` for weights that do not fit or cannot be had, `MissingExtraError` for a missing package.
    """
    if config.kind == "minilm":
        return TorchTextEncoder(config, load_minilm(config), minilm_tokenizer(config))
    model = load_clip_text(config) if state is None else clip_text(config, state, origin)
    return TorchTextEncoder(config, model, clip_tokenizer(config))
