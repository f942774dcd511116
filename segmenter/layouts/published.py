"""Published checkpoints: GKC and FC-CLIP files become our models, every parameter accounted for.

A file is recognised by its parameter names, its config read from their shapes. Accepted forms are those of the
detectron2 family: the state under the key `model` or bare, values as tensors or numpy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...bundle.errors import CheckpointError
from ..checkpoint import build_model, read_torch
from ..fcclip import FCClip
from ..model import MaskModel
from .account import TITLES, account_for
from .coco_names import COCO_PANOPTIC, COCO_STUFF
from .name_vectors import name_vectors
from .parameter_names import recognise
from .shapes import read_config


def load_published(
    path: Path, trust_pickle: bool = False, training_vocabulary: Sequence[Sequence[str]] | None = None
) -> tuple[MaskModel, dict[str, Any]]:
    """The model in eval mode, and what else the file tells; raises `CheckpointError`.

    The second value holds `training_vocabulary` (each class with its names), `stuff` (first names of those classes that
    are regions, where it is known), `provenance`, and `text_encoder`: the weights of the CLIP text tower, where the file
    has one, under the names of `ClipText`; `model.config.text` is its config. A Python pickle (`.pkl`) can run code and
    is read only with `trust_pickle`. Both published models were trained on COCO panoptic; give `training_vocabulary`
    for a file that was trained with other names. What a GKC file may lack, see `account_for`.
    """
    return from_published(read_torch(path, trust_pickle), path, training_vocabulary)


def from_published(
    raw: Mapping[Any, Any], path: Path, training_vocabulary: Sequence[Sequence[str]] | None = None
) -> tuple[MaskModel, dict[str, Any]]:
    """`load_published` for a file's content; `path` is for messages and provenance."""
    origin = str(path)
    state = published_state(raw, origin)
    family = recognise(set(state))
    if family is None:
        found = ", ".join(sorted(map(str, state or raw))[:5])
        raise CheckpointError(
            f"{origin} is no checkpoint this version knows (it holds: {found}); expected a model.pt from ovs-train, or "
            "a published GKC or FC-CLIP file"
        )
    config = read_config({name: tuple(value.shape) for name, value in state.items()}, family, origin)
    model = build_model(config)
    vocabulary = [list(names) for names in training_vocabulary or COCO_PANOPTIC]
    account = account_for(model, state, origin, (len(COCO_PANOPTIC), len(vocabulary)))
    own = {ours: state[name].float() for name, ours in account.model.items()}
    model.load_state_dict({name: own.get(name, torch.zeros_like(value)) for name, value in model.state_dict().items()})
    model.eval()
    extras: dict[str, Any] = {
        "training_vocabulary": vocabulary,
        "provenance": {
            "checkpoint": path.name,
            "layout": TITLES[family],
            "preset": config.name,
            "parameters_used": len(account.model) + len(account.text),
            "parameters_not_needed": len(account.not_needed),
        },
    }
    if training_vocabulary is None:
        extras["stuff"] = [names[0] for names in COCO_STUFF]
    if account.text:
        extras["text_encoder"] = {ours: state[name].float() for name, ours in account.text.items()}
    if isinstance(model, FCClip):
        names = list(dict.fromkeys(name for entry in vocabulary for name in entry))
        model.set_seen_vectors(name_vectors(config.text, extras["text_encoder"], names, origin))
    return model, extras


def published_state(raw: Mapping[Any, Any], origin: str) -> dict[str, Tensor]:
    """Parameter names and values, from under `model` or the file itself; raises `CheckpointError` naming what is none."""
    state = raw["model"] if isinstance(raw.get("model"), Mapping) else raw
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub":
            # A copy in the machine's byte order: what a file holds may be read-only or foreign.
            value = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
        if not isinstance(value, Tensor):
            if state is raw:
                continue  # an epoch number or a comment beside a bare state dict
            raise CheckpointError(
                f"{origin}: parameter {name} is a {type(value).__name__}, expected a tensor or an array"
            )
        tensors[str(name)] = value
    return tensors
