"""A CLIP text tower from elsewhere, for a checkpoint that was published without the one it was trained with."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor

from ...bundle.errors import UsageError
from ..config import TextConfig
from ..model import ImageModel
from ..weights.files import read_weights
from ..weights.unwrap import find_state
from .clip_text import clip_text, load_clip_text, text_state

_ANY_TOWER = {"token_embedding.weight", "positional_embedding", "text_projection"}  # names that every text tower has


def give_text_tower(model: ImageModel, extras: dict[str, Any], tag: str, origin: str) -> None:
    """Use the text tower `tag` for `model`, of the checkpoint `origin`, and for what else the checkpoint holds.

    `tag` is MODEL/WEIGHTS, both names of open_clip, which downloads them once, or MODEL:FILE, a state dict on disk, of
    a whole CLIP or its text tower. Raises `UsageError` for a tower that the checkpoint does not need or cannot use,
    `CheckpointError` for weights that cannot be had or do not fit.
    """
    text = model.config.text
    if text.kind != "clip":
        raise UsageError(
            f"{origin} was trained with vectors of a {text.kind} encoder, which CLIP's vectors do not match; leave out "
            "--clip-text"
        )
    if "text_encoder" in extras:
        raise UsageError(f"{origin} holds the text encoder it was trained with; leave out --clip-text")
    architecture, colon, file = tag.partition(":")
    name, slash, weights = architecture.partition("/")
    if not name or bool(colon) == bool(slash) or not (file or weights):
        raise UsageError(f"--clip-text is {tag!r}, expected MODEL/WEIGHTS such as RN50/openai, or MODEL:FILE")
    config = _tower(text, name, weights, tag)
    if config.dim != text.dim:
        raise UsageError(
            f"--clip-text {tag} gives vectors of {config.dim} numbers, {origin} compares with vectors of {text.dim}; "
            "name the CLIP that it was trained with"
        )
    if file:
        state = clip_text(config, text_state(_read(Path(file))), file).state_dict()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # open_clip's, about activations: ours are chosen by `_tower`
            state = load_clip_text(config, tag).state_dict()
    model.config = dataclasses.replace(model.config, text=config)
    extras["text_encoder"] = state


def _tower(text: TextConfig, name: str, weights: str, tag: str) -> TextConfig:
    """`text` with the shape of the text tower of open_clip's model `name`."""
    import open_clip

    known = open_clip.get_model_config(name)
    if known is None or "hf_model_name" in known["text_cfg"]:
        raise UsageError(
            f"--clip-text {tag}: {name!r} is no model of open_clip whose text tower is CLIP's; expected one such as "
            "RN50, RN101 or RN50x4"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights and weights not in tags:
        raise UsageError(
            f"--clip-text {tag}: open_clip has no weights {weights!r} of {name}; it has: {', '.join(tags)}"
        )
    tower = known["text_cfg"]
    quick = bool(known.get("quick_gelu"))
    if weights:
        quick = quick or bool(open_clip.get_pretrained_cfg(name, weights).get("quick_gelu"))
    return dataclasses.replace(
        text,
        dim=known["embed_dim"],
        context_length=tower["context_length"],
        layers=tower["layers"],
        width=tower["width"],
        heads=tower["heads"],
        vocabulary=tower["vocab_size"],
        quick_gelu=quick,
    )


def _read(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, of a file by torch or safetensors, without the wrappers of training tools."""
    found = find_state(read_weights(path, offer_trust=False), lambda names: bool(_ANY_TOWER & names))
    values = {} if found is None else found.values
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
