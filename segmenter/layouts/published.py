"""Published checkpoints become our models, every parameter accounted for.

A file is recognised by its parameter names, its config read from their shapes. Values are tensors or numpy arrays; what
training tools put around a state is taken off, see `weights.unwrap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...bundle.errors import CheckpointError
from ..config import PRESETS
from ..model import ImageModel
from ..weights.files import read_weights
from ..weights.load import load_weights
from ..weights.unwrap import FoundState, find_state
from .registry import LAYOUTS, build_model, recognise


def load_published(
    path: Path, *, trust_pickle: bool = False, training_vocabulary: Sequence[Sequence[str]] | None = None
) -> tuple[ImageModel, dict[str, Any]]:
    """The model in eval mode, and what else the file tells; raises `CheckpointError`.

    The second value holds `training_vocabulary` (each class with its names), `stuff` (first names of those classes that
    are regions, where it is known), `provenance`, and `text_encoder`: the weights of the CLIP text tower, where the
    file has one, under the names of `ClipText`; `model.config.text` is its config. A Python pickle (`.pkl`) can run
    code and is read only with `trust_pickle`. GKC and FC-CLIP were trained on COCO panoptic; give
    `training_vocabulary` for a file that was trained with other names. What a GKC file may lack, see
    `Mask2FormerLayout.account_for`.
    """
    return from_published(read_weights(path, trust_pickle=trust_pickle), path, training_vocabulary)


def from_published(
    raw: Mapping[Any, Any], path: Path, training_vocabulary: Sequence[Sequence[str]] | None = None
) -> tuple[ImageModel, dict[str, Any]]:
    """`load_published` for a file's content; `path` is for messages and provenance."""
    origin = str(path)
    found = find_state(raw, lambda names: recognise(names) is not None)
    layout = None if found is None else recognise(found.values.keys())
    if found is None or layout is None:
        bare = _bare_preset(raw, origin, training_vocabulary)
        if bare is not None:
            return bare
        inner: list[Any] = [raw[key] for key in ("model", "state_dict") if isinstance(raw.get(key), Mapping)]
        names = ", ".join(sorted(map(str, inner[0] if inner and inner[0] else raw))[:5])
        titles = " or ".join(known.title for known in LAYOUTS)
        raise CheckpointError(
            f"{origin} is no checkpoint this version knows (it holds: {names}); expected a model.pt from ovs-train, or "
            f"a published {titles} file"
        )
    state = _tensors(found, origin)
    model, extras = layout.load(state, origin, training_vocabulary)
    source = {"checkpoint": path.name, "layout": layout.title}
    if found.where not in ("", "model"):
        source["state"] = found.where
    return model, {**extras, "provenance": {**source, **extras.get("provenance", {})}}


def _bare_preset(
    raw: Mapping[Any, Any], origin: str, training_vocabulary: Sequence[Sequence[str]] | None
) -> tuple[ImageModel, dict[str, Any]] | None:
    """A state of one of our own presets that was saved without its config; None for any other file."""
    if find_state(raw, lambda names: "query_decoder.query_feat" in names) is None:
        return None
    for name, make in sorted(PRESETS.items(), key=lambda preset: preset[0] != "mini"):  # the smallest one first
        with torch.device("meta"):
            own = build_model(make()).state_dict()
        found = find_state(raw, own.keys().__eq__)
        if found is None or any(tuple(getattr(found.values[key], "shape", ())) != own[key].shape for key in own):
            continue
        model = build_model(make())
        load_weights(model, _tensors(found, origin), origin)
        vocabulary = [list(names) for names in training_vocabulary or ()]
        return model.eval(), {"training_vocabulary": vocabulary, "provenance": {"preset": name, "state": found.where}}
    return None


def _tensors(found: FoundState, origin: str) -> dict[str, Tensor]:
    """Parameter names and values; raises `CheckpointError` naming what is no tensor and no array of numbers."""
    tensors: dict[str, Tensor] = {}
    for name, value in found.values.items():
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiubc":
            # A copy in the machine's byte order: what a file holds may be read-only or foreign.
            value = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))
        if not isinstance(value, Tensor):
            if not found.nested:
                continue  # an epoch number or a comment beside a bare state dict
            raise CheckpointError(
                f"{origin}: parameter {name} is a {type(value).__name__}, expected a tensor or an array"
            )
        tensors[name] = value
    return tensors
