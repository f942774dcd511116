"""The objective of each kind of model that can be trained."""

from __future__ import annotations

import torch
from torch import Tensor

from ...bundle.errors import UsageError
from ...segmenter.config import SegmenterConfig
from ...segmenter.dense import DenseSegmenter
from ...segmenter.layouts.registry import build_model
from ...segmenter.model import SegmenterModel
from .dense import DenseObjective
from .losses import LossOptions
from .objective import Objective

TrainableModel = SegmenterModel | DenseSegmenter


def trainable(config: SegmenterConfig) -> TrainableModel:
    """The model of a config, with random weights; raises `UsageError` for a family that is only read, not trained."""
    model = build_model(config)
    if not isinstance(model, SegmenterModel | DenseSegmenter):
        raise UsageError(f"models of the family {config.family!r} cannot be trained here; use a preset of ovs-train")
    return model


def build_objective(
    model: TrainableModel,
    losses: LossOptions,
    autocast: torch.dtype | None = None,
    means: tuple[Tensor, Tensor] | None = None,
) -> Objective | DenseObjective:
    """The losses around a model; for `autocast` and `means` see `Objective`."""
    if isinstance(model, DenseSegmenter):
        return DenseObjective(model, losses, autocast)
    return Objective(model, losses, autocast, means)
