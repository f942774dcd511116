"""Models to measure: a preset with random weights (latency does not depend on them), or a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from ...segmenter.checkpoint import load_checkpoint
from ...segmenter.layouts.registry import any_preset, build_model
from ...segmenter.model import ImageModel


def open_model(name: str) -> ImageModel:
    """The model in eval mode; raises `CheckpointError`, or `UsageError` for what is neither."""
    if Path(name).is_file():
        return load_checkpoint(Path(name))[0]
    config = any_preset(name)
    torch.manual_seed(0)
    return build_model(config).eval()
