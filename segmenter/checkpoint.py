"""`model.pt`: config and weights in plain types, loaded without running code."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from ovs_edge.bundle.errors import CheckpointError, OvsError
from ovs_edge.segmenter.config import SegmenterConfig
from ovs_edge.segmenter.segmenter import Segmenter

FORMAT = "ovs-edge segmenter"


def save_checkpoint(
    path: Path, model: Segmenter, vocabulary: list[list[str]], provenance: dict[str, Any], half: bool = False
) -> None:
    """Write `model.pt` whole or not at all.

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
    write_torch(
        path,
        {
            "format": FORMAT,
            "config": model.config.to_dict(),
            "model": state,
            "training_vocabulary": vocabulary,
            "provenance": provenance,
        },
    )


def write_torch(path: Path, value: dict[str, Any]) -> None:
    """`torch.save` to a temporary name, then rename."""
    work = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(value, work)
        os.replace(work, path)
    except (OSError, RuntimeError) as error:
        work.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {path} ({error}); free some space or choose another folder") from error


def read_torch(path: Path) -> dict[str, Any]:
    """`torch.load` of plain tensors and containers only; raises `CheckpointError`."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; expected a model.pt written by ovs-train")
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path} holds more than tensors and was not loaded ({reason[:160]}); expected a model.pt of plain weights"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({reason[:160]}); it is truncated or not one: copy it again"
        ) from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} holds a {type(raw).__name__}, expected a dict with config and model")
    return raw


def load_checkpoint(path: Path) -> tuple[Segmenter, dict[str, Any]]:
    """The model in eval mode, and the rest of the file (training vocabulary, provenance)."""
    raw = read_torch(path)
    if raw.get("format") != FORMAT or not isinstance(raw.get("config"), dict) or not isinstance(raw.get("model"), dict):
        found = ", ".join(sorted(map(str, raw))[:5])
        raise CheckpointError(f"{path} is not an ovs-edge checkpoint (it holds: {found}); expected one from ovs-train")
    try:
        model = Segmenter(SegmenterConfig.from_dict(raw["config"]))
        load_weights(model, raw["model"], str(path))
    except OvsError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: the model config cannot be built ({error}); update ovs-edge") from error
    return model.eval(), {key: value for key, value in raw.items() if key not in ("model", "config", "format")}


def load_weights(model: torch.nn.Module, state: dict[str, Any], origin: str) -> None:
    """Load every parameter or raise `CheckpointError` naming what is missing, unknown or of another shape."""
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    unknown = sorted(set(state) - set(own))
    shapes = sorted(name for name in set(own) & set(state) if tuple(own[name].shape) != tuple(state[name].shape))
    for problem, names in (("missing", missing), ("unknown", unknown), ("of another shape", shapes)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise CheckpointError(
                f"{origin}: parameters {problem}: {', '.join(names[:5])}{more}; expected those of {type(model).__name__}"
            )
    model.load_state_dict(state)
