"""Models to measure: a preset with random weights, whose speed is that of any weights, or a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from ovs_edge.segmenter.checkpoint import build_model, load_checkpoint
from ovs_edge.segmenter.config import PRESETS, preset
from ovs_edge.segmenter.segmenter import MaskModel


def open_model(name: str) -> MaskModel:
    """The model in eval mode; raises `CheckpointError`, or `UsageError` for what is neither."""
    if name in PRESETS or not Path(name).exists():
        torch.manual_seed(0)
        return build_model(preset(name)).eval()
    return load_checkpoint(Path(name))[0]
