"""Text encoders behind one interface: names in, unit vectors out."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ovs_edge.segmenter.config import TextConfig


class TextEncoder:
    """A frozen encoder with its tokenizer and prompt templates."""

    def __init__(self, config: TextConfig, model: nn.Module, tokenizer: Tokenizer) -> None:
        self.config, self.model, self.tokenizer = config, model.eval().requires_grad_(False), tokenizer

    @torch.no_grad()
    def encode(self, names: list[str]) -> Tensor:
        """(N, D) unit vectors: each prompt's vector made unit, averaged over the templates, made unit again."""
        total = torch.zeros(len(names), self.config.dim)
        for template in self.config.templates:
            vectors = self.model(*self.tokenize([template.format(name) for name in names]))
            total = total + nn.functional.normalize(vectors.float(), dim=-1)
        return nn.functional.normalize(total, dim=-1)

    def tokenize(self, texts: list[str]) -> tuple[Tensor, ...]:
        """Inputs of the model, int64 (N, L): token ids, and for a sentence encoder their mask."""
        encodings = self.tokenizer.encode_batch(self.clean(texts))
        ids = torch.tensor([encoding.ids for encoding in encodings])
        if self.config.kind == "clip":
            return (ids,)
        return ids, torch.tensor([encoding.attention_mask for encoding in encodings])

    def clean(self, texts: list[str]) -> list[str]:
        """What has to happen before the tokenizer."""
        if self.config.kind != "clip":
            return texts
        from ovs_edge.segmenter.tokenizers import clean_clip

        return [clean_clip(text) for text in texts]


def load_text_encoder(config: TextConfig, state: dict[str, Any] | None = None) -> TextEncoder:
    """The encoder of a config; `state` holds a CLIP text tower's weights when the checkpoint brings its own."""
    if config.kind == "minilm":
        from ovs_edge.segmenter.minilm import load_minilm, package_folder

        tokenizer = Tokenizer.from_file(str(package_folder() / "tokenizer.json"))
        tokenizer.enable_padding()  # to the longest of the batch: a name has three tokens, not 128
        return TextEncoder(config, load_minilm(config), tokenizer)
    from ovs_edge.segmenter.clip_text import load_clip_text
    from ovs_edge.segmenter.tokenizers import clip_tokenizer

    return TextEncoder(config, load_clip_text(config, state), clip_tokenizer())
