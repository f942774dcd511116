"""Published checkpoints: GKC and FC-CLIP files become our models, every parameter accounted for.

A file is recognised by its parameter names, its config read from their shapes. Accepted forms are those of the
detectron2 family: the state under the key `model` or bare, values as tensors or numpy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ovs_edge.bundle.errors import CheckpointError
from ovs_edge.segmenter.checkpoint import build_model, read_torch
from ovs_edge.segmenter.clip_text import ClipText
from ovs_edge.segmenter.config import SegmenterConfig
from ovs_edge.segmenter.fcclip import FCClip
from ovs_edge.segmenter.published_config import read_config
from ovs_edge.segmenter.published_names import OURS_ALONE, TEXT_PREFIX, not_needed, published_name, recognise
from ovs_edge.segmenter.published_text import name_vectors
from ovs_edge.segmenter.published_vocabulary import COCO_PANOPTIC, COCO_STUFF
from ovs_edge.segmenter.segmenter import MaskModel

_TITLES = {"gkc": "GKC", "fcclip": "FC-CLIP"}
_COUNTER = ".num_batches_tracked"  # of batch norms: counts training steps, and some files leave it out


@dataclass(frozen=True)
class Account:
    """Where each parameter of a published file goes. Names are those of the file unless said otherwise."""

    model: dict[str, str]  # name -> our parameter
    text: dict[str, str]  # name -> the text tower's parameter; empty if the file has no tower
    not_needed: tuple[str, ...]  # known, and no part of inference


def load_published(
    path: Path, trust_pickle: bool = False, training_vocabulary: Sequence[Sequence[str]] | None = None
) -> tuple[MaskModel, dict[str, Any]]:
    """The model in eval mode, and what else the file tells; raises `CheckpointError`.

    The second value holds `training_vocabulary` (each class with its names), `stuff` (first names of those classes that
    are regions, where it is known), `provenance`, and `text_encoder`: the weights of the CLIP text tower, where the file has one, under the names of `ClipText`; `model.config.text` is its
    config. A Python pickle (`.pkl`) can run code and is read only with `trust_pickle`. Both published models were
    trained on COCO panoptic; give `training_vocabulary` for a file that was trained with other names.
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
    account = account_for(model, state, origin)
    own = {ours: state[name].float() for name, ours in account.model.items()}
    model.load_state_dict({name: own.get(name, torch.zeros_like(value)) for name, value in model.state_dict().items()})
    model.eval()
    vocabulary = [list(names) for names in training_vocabulary or COCO_PANOPTIC]
    extras: dict[str, Any] = {
        "training_vocabulary": vocabulary,
        "provenance": {
            "checkpoint": path.name,
            "layout": _TITLES[family],
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


def account_for(model: MaskModel, state: Mapping[str, Tensor], origin: str) -> Account:
    """Find a place for every parameter, or raise `CheckpointError` with the names of those that have or fill none."""
    config = model.config
    wanted = {
        published_name(name, config): (name, tuple(value.shape))
        for name, value in model.state_dict().items()
        if name not in OURS_ALONE
    }
    text = _text_names(config, state)
    shapes = {name: shape for name, (_, shape) in wanted.items()} | {name: shape for name, (_, shape) in text.items()}
    found = set(state)
    missing = [name for name in shapes if name not in found and not name.endswith(_COUNTER)]
    idle = tuple(name for name in state if name not in shapes and not_needed(name, config.family))
    unknown = sorted(found - set(shapes) - set(idle))
    reshaped = [
        f"{name} {tuple(state[name].shape)} instead of {shape}"
        for name, shape in shapes.items()
        if name in found and tuple(state[name].shape) != shape
    ]
    problems = [
        f"{len(names)} {problem}: {', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
        for problem, names in (
            ("missing", sorted(missing)),
            ("unknown", unknown),
            ("of another shape", sorted(reshaped)),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{origin} looks like a {_TITLES[config.family]} checkpoint ({config.name}), but of its parameters are "
            f"{'; '.join(problems)}. Copy the file again, or check which model it is of"
        )
    return Account(
        {name: ours for name, (ours, _) in wanted.items() if name in found},
        {name: ours for name, (ours, _) in text.items()},
        idle,
    )


def _text_names(config: SegmenterConfig, state: Mapping[str, Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Published name -> name and shape in the text tower; empty for a GKC file that was published without it."""
    prefix = TEXT_PREFIX[config.family]
    if config.family == "gkc" and not any(name.startswith(prefix) for name in state):
        return {}
    with torch.device("meta"):
        tower = ClipText(config.text)
    return {prefix + name: (name, tuple(value.shape)) for name, value in tower.state_dict().items()}
