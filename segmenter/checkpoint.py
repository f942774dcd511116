"""`model.pt`: config and weights in plain types, loaded without running code."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from ..bundle.errors import CheckpointError, OvsError
from .config import SegmenterConfig
from .layouts.published import from_published
from .layouts.registry import build_model
from .model import ImageModel
from .weights.files import read_weights, write_torch
from .weights.load import load_weights
from .weights.unwrap import find_checkpoint, find_state

FORMAT = "ovs-edge segmenter"


def save_checkpoint(
    path: Path,
    model: ImageModel,
    vocabulary: list[list[str]],
    provenance: dict[str, Any],
    *,
    half: bool = False,
    text_state: dict[str, torch.Tensor] | None = None,
    related: dict[str, list[str]] | None = None,
) -> None:
    """Write `model.pt` whole or not at all. `text_state`: the text encoder's weights, where no package brings them.

    `half` rounds the matrices and kernels to FP16 in the file (and in `model`), so that an export may store them so
    without a loss. Vectors, the statistics of norms among them, stay FP32: they are small, and their range is not.
    """
    if half:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim >= 2:
                    parameter.copy_(parameter.half().float())
    state = {
        name: value.half() if half and value.ndim >= 2 and value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    content = {
        "format": FORMAT,
        "config": model.config.to_dict(),
        "model": state,
        "training_vocabulary": vocabulary,
        "related": related or {},
        "provenance": provenance,
    }
    write_torch(path, content if text_state is None else {**content, "text_encoder": text_state})


def load_checkpoint(path: Path, *, trust_pickle: bool = False) -> tuple[ImageModel, dict[str, Any]]:
    """The model in eval mode, and what else the file tells: training vocabulary, provenance, a text encoder's weights.

    Reads our own files and the published ones, see `load_published`. Raises `CheckpointError`.
    """
    content = read_weights(path, trust_pickle=trust_pickle)
    raw = find_checkpoint(content, lambda found: found.get("format") == FORMAT)  # a tool may have put it under a key
    if raw is None:
        return from_published(content, path)
    if not isinstance(raw.get("config"), dict) or not isinstance(raw.get("model"), dict):
        found = ", ".join(sorted(map(str, raw))[:5])
        raise CheckpointError(f"{path} lacks its config or weights (it holds: {found}); copy it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about layers of no size: what is wrong with them is said below
            model = build_model(SegmenterConfig.from_dict(raw["config"]))
        own = model.state_dict().keys()
        state = find_state(raw["model"], lambda names: own <= names)  # a training tool may have wrapped the model
        load_weights(model, raw["model"] if state is None else state.values, str(path))
    except OvsError:
        raise
    except Exception as error:  # a config of wrong types fails wherever it is first used
        raise CheckpointError(f"{path}: the model config cannot be built ({error}); update ovs-edge") from error
    return model.eval(), {key: value for key, value in raw.items() if key not in ("model", "config", "format")}
