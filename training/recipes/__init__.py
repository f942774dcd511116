"""Recipes: the default options of a training run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from ...bundle.errors import UsageError
from ..choices import NamesMode, Precision, Schedule
from ..losses.losses import LossOptions
from ..options import TrainOptions


@dataclass(frozen=True)
class Recipe:
    """A model and how it is trained."""

    preset: str  # of the model
    train: TrainOptions
    losses: LossOptions
    teacher: str = ""  # see `training.teachers`; empty: none


def plain() -> Recipe:
    """Names drawn at random, no teacher: quick, and enough where all classes are known in training."""
    return Recipe("mini", TrainOptions(), LossOptions())


def guided() -> Recipe:
    """`plain` with text diversification and text-guided distillation by an ImageNet classifier."""
    losses = LossOptions(drawn=2.0, absent=True, region=8.0, pairs=8.0, centred=True)
    return Recipe("mini", TrainOptions(names=NamesMode.DRAW, rivals=True), losses, "imagenet")


def everyday() -> Recipe:
    """`guided` for several datasets together, some small and with rare classes: balanced crops, copy-paste, mosaics."""
    base = guided()
    train = dataclasses.replace(base.train, scale=(0.5, 2.0), grey=0.05, balance=0.6, paste=0.4, mosaic=0.15)
    return dataclasses.replace(base, train=train)


def dense() -> Recipe:
    """The model without queries on several datasets together: the embedded model's recipe.

    The early stages keep their ImageNet weights: most of a step's time goes into their gradients.
    """
    train = TrainOptions(
        steps=4000, crop=224, lr=1e-3, backbone_lr=0.25, frozen_stages=3, rivals=True, plain_share=0.6,
        scale=(0.5, 1.6), validate_every=800,
    )  # fmt: skip
    return Recipe("dense_mini", train, LossOptions(classification=1.0, mask=0.5, dice=0.5, pixel_text=0.4))


def paper() -> Recipe:
    """GKC's recipe for COCO panoptic (Han et al. 2023), for some eight GPUs.

    The paper gives the size of a step, the schedule, the crops, the loss weights 2, 5, 5 and the region dropout, which
    here leaves out of a step's distillation each region with that probability. The weights of the distillation's two
    terms are ours.
    """
    train = TrainOptions(
        steps=50_000, batch=112, crop=512, view=512, lr=3e-4, backbone_lr=0.1, schedule=Schedule.STEP,
        milestones=(0.8, 0.9), warmup=10, names=NamesMode.DRAW, precision=Precision.FP16, validate_every=5000,
        workers=4,
    )  # fmt: skip
    losses = LossOptions(pixel_text=0.0, points=12544, drawn=2.0, region=1.0, pairs=1.0, region_dropout=0.5)
    return Recipe("gkc_r50", train, losses, "clip:RN50/openai")


RECIPES: dict[str, Callable[[], Recipe]] = {
    "plain": plain,
    "guided": guided,
    "everyday": everyday,
    "dense": dense,
    "paper": paper,
}


def recipe(name: str) -> Recipe:
    """A recipe by name; raises `UsageError` naming those there are."""
    if name not in RECIPES:
        raise UsageError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]()
