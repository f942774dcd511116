"""Published checkpoints become our models, every parameter accounted for.

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
from ..model import MaskModel
from ..weights import read_torch
from .registry import LAYOUTS, recognise


def load_published(
    path: Path, *, trust_pickle: bool = False, training_vocabulary: Sequence[Sequence[str]] | None = None
) -> tuple[MaskModel, dict[str, Any]]:
    """The model in eval mode, and what else the file tells; raises `CheckpointError`.

    The second value holds `training_vocabulary` (each class with its names), `stuff` (first names of those classes that
    are regions, where it is known), `provenance`, and `text_encoder`: the weights of the CLIP text tower, where the file
    has one, under the names of `ClipText`; `model.config.text` is its config. A Python pickle (`.pkl`) can run code and
    is read only with `trust_pickle`. GKC and FC-CLIP were trained on COCO panoptic; give
    `training_vocabulary` for a file that was trained with other names. What a GKC file may lack, see
    `Mask2FormerLayout.account_for`.
    """
    return from_published(read_torch(path, trust_pickle=trust_pickle), path, training_vocabulary)


def from_published(
    raw: Mapping[Any, Any], path: Path, training_vocabulary: Sequence[Sequence[str]] | None = None
) -> tuple[MaskModel, dict[str, Any]]:
    """`load_published` for a file's content; `path` is for messages and provenance."""
    origin = str(path)
    state = published_state(raw, origin)
    layout = recognise(state.keys())
    if layout is None:
        found = ", ".join(sorted(map(str, state or raw))[:5])
        titles = " or ".join(known.title for known in LAYOUTS)
        raise CheckpointError(
            f"{origin} is no checkpoint this version knows (it holds: {found}); expected a model.pt from ovs-train, or "
            f"a published {titles} file"
        )
    model, extras = layout.load(state, origin, training_vocabulary)
    source = {"checkpoint": path.name, "layout": layout.title}
    return model, {**extras, "provenance": {**source, **extras.get("provenance", {})}}


def published_state(raw: Mapping[Any, Any], origin: str) -> dict[str, Tensor]:
    """Parameter names and values, from under `model` or the file itself; raises `CheckpointError` naming what is none."""
    state = raw["model"] if isinstance(raw.get("model"), Mapping) else raw
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiubc":
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
