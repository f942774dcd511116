"""Vectors of many names by a checkpoint's own CLIP text tower, at a fraction of the cost of one prompt at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from rich.progress import track
from torch import Tensor, nn

from ..config import TextConfig
from ..text.clip_text import FUTURE, ClipText, clip_text
from ..text.tokenizers import clean_clip, clip_tokenizer

_BATCH = 32  # names that run as one sequence
_LONG = 1000  # prompts from which a progress bar is shown


@torch.no_grad()
def name_vectors(config: TextConfig, state: dict[str, Tensor], names: Sequence[str], origin: str) -> Tensor:
    """Unit vectors (N, D) of `names`: each prompt's vector made unit, averaged over the templates, made unit again."""
    tokenizer, tower = clip_tokenizer(config), clip_text(config, state, origin)
    quiet = len(names) * len(config.templates) < _LONG
    total = torch.zeros(len(names), config.dim)
    for template in track(config.templates, "encoding the training names", transient=True, disable=quiet):
        encodings = tokenizer.encode_batch([clean_clip(template.replace("{}", name)) for name in names])
        ids = torch.tensor([encoding.ids for encoding in encodings])
        vectors = torch.cat([_packed(tower, ids[start : start + _BATCH]) for start in range(0, len(names), _BATCH)])
        total += nn.functional.normalize(vectors, dim=-1)
    return nn.functional.normalize(total, dim=-1)


def _packed(tower: ClipText, ids: Tensor) -> Tensor:
    """What `tower(ids)` computes, for prompts that begin alike: (N, L) -> (N, D).

    No token looks at later ones. So what follows the end mark can be cut, and what precedes the name is computed once:
    the common beginning and all the rests stand in one sequence, where each rest sees the beginning and itself. That
    leaves 5 of 77 tokens to a prompt.
    """
    lengths = (ids.argmax(-1) + 1).tolist()  # the end mark has the largest id
    alike = (ids == ids[0]).all(0).long().cumprod(0).sum()
    common = min(int(alike), min(lengths) - 1)
    rests = [range(common, length) for length in lengths]
    tokens = torch.cat([ids[0, :common], *(row[common:length] for row, length in zip(ids, lengths, strict=True))])
    place = torch.tensor([*range(common), *(position for rest in rests for position in rest)])
    owner = torch.tensor([-1] * common + [index for index, rest in enumerate(rests) for _ in rest])
    visible = (place[None] <= place[:, None]) & ((owner[None] == -1) | (owner[None] == owner[:, None]))
    bias = (~visible).float() * FUTURE
    x = tower.token_embedding(tokens) + tower.positional_embedding[place]
    x = tower.ln_final(tower.transformer(x[None], bias))[0]
    ends = common + torch.tensor([len(rest) for rest in rests]).cumsum(0) - 1
    vectors: Tensor = x[ends] @ tower.text_projection
    return vectors
