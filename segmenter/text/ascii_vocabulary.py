"""A sentence encoder without the tokens that ASCII text never needs: smaller tables of embeddings, the same vectors."""

from __future__ import annotations

import copy
import json
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from ...bundle.errors import UsageError
from .encoder import TorchTextEncoder
from .minilm import MiniLM


def ascii_encoder(encoder: TorchTextEncoder) -> TorchTextEncoder:
    """`encoder` with the tokens of ASCII characters, and the positions of its context, alone.

    Texts whose tokens are all kept have the same vectors, bit by bit; accents are no obstacle, the tokenizer removes
    them. A word with any other token becomes `[UNK]`. Raises `UsageError` for an encoder other than MiniLM.
    """
    model = encoder.model
    if not isinstance(model, MiniLM):
        raise UsageError(
            f"--text-vocabulary ascii is for the sentence encoder MiniLM, this model has {encoder.config.kind}; use full"
        )
    tokenizer, kept = ascii_tokenizer(encoder.tokenizer)
    smaller = copy.deepcopy(model)
    smaller.word_embeddings = _rows(model.word_embeddings, kept)
    smaller.position_embeddings = _rows(model.position_embeddings, list(range(encoder.config.context_length)))
    return TorchTextEncoder(encoder.config, smaller, tokenizer)


def ascii_tokenizer(tokenizer: Tokenizer) -> tuple[Tokenizer, list[int]]:
    """A word-piece tokenizer without tokens that hold a character beyond ASCII and without unused ones, and the former
    numbers of the tokens that are kept, in their order."""
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    former: dict[str, int] = content["model"]["vocab"]
    kept = [token for token in sorted(former, key=former.__getitem__) if token.isascii() and token[:7] != "[unused"]
    numbers = {token: number for number, token in enumerate(kept)}
    content["model"]["vocab"] = numbers
    for added in content["added_tokens"]:
        added["id"] = numbers[added["content"]]
    for special in content["post_processor"]["special_tokens"].values():
        special["ids"] = [numbers[token] for token in special["tokens"]]
    if content["padding"] is not None:
        content["padding"]["pad_id"] = numbers[content["padding"]["pad_token"]]
    return Tokenizer.from_str(json.dumps(content, ensure_ascii=False)), [former[token] for token in kept]


def _rows(table: nn.Embedding, kept: list[int]) -> nn.Embedding:
    weight = table.weight.detach()[kept]
    return nn.Embedding(weight.shape[0], weight.shape[1], _weight=weight)
