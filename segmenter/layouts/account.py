"""Every parameter of a published file has a place, or the file is refused with the names of those that have or fill none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...bundle.errors import CheckpointError
from ..backbone import build_backbone
from ..config import SegmenterConfig
from ..fcclip import AttentionPool
from ..model import MaskModel
from ..text.clip_text import ClipText
from .coco_names import COCO_PANOPTIC
from .parameter_names import OURS_ALONE, TEXT_PREFIX, published_name
from .shapes import pool_grid

TITLES = {"gkc": "GKC", "fcclip": "FC-CLIP"}
_COUNTER = ".num_batches_tracked"  # of batch norms: counts training steps
_CLASS_WEIGHTS = "criterion.empty_weight"  # of the loss: one for each class and "no object"
_TEACHER = "vision_clip."
_TEACHER_GRID = 16  # of the published teacher's position embedding, made for images of 512 pixels

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


@dataclass(frozen=True)
class Account:
    """Where each parameter of a published file goes. Names are those of the file unless said otherwise."""

    model: dict[str, str]  # name -> our parameter
    text: dict[str, str]  # name -> the text tower's parameter; empty if the file has no tower
    not_needed: tuple[str, ...]  # known, and no part of inference


def account_for(
    model: MaskModel, state: Mapping[str, Tensor], origin: str, classes: Sequence[int] = (len(COCO_PANOPTIC),)
) -> Account:
    """Find a place for every parameter, or raise `CheckpointError` with the names of those that have or fill none.

    The names and shapes of a whole file follow from the config of `model`; `classes` are the sizes a training vocabulary
    may have. What a release may leave out, it must leave out as a whole: the counters of all batch norms, which some
    tools strip, and of a GKC file its text tower, its teacher, its distillation heads, the weights of its loss.
    """
    config, own = model.config, model.state_dict()
    found = {name: tuple(value.shape) for name, value in state.items()}
    with torch.device("meta"):
        tower = ClipText(config.text).state_dict()
    names = {published_name(name, config): name for name in own if name not in OURS_ALONE}
    text_names = {TEXT_PREFIX[config.family] + name: name for name in tower}
    expected = {name: tuple(own[ours].shape) for name, ours in names.items()}
    text = {name: tuple(tower[ours].shape) for name, ours in text_names.items()}
    for part in (text, *not_needed(config, found, classes)):
        if config.family != "gkc" or _any(part, found):
            expected |= part
    if not _any((name for name in expected if name.endswith(_COUNTER)), found):
        expected = {name: shape for name, shape in expected.items() if not name.endswith(_COUNTER)}
    reshaped = [name for name in expected if name in found and found[name] != expected[name]]
    problems = {
        "missing": expected.keys() - found,
        "unknown": found.keys() - expected,
        "of another shape": {f"{name} {found[name]} instead of {expected[name]}" for name in reshaped},
    }
    said = [
        f"{len(some)} {problem}: {', '.join(sorted(some)[:5])}{', …' if len(some) > 5 else ''}"
        for problem, some in problems.items()
        if some
    ]
    if said:
        raise CheckpointError(
            f"{origin} looks like a {TITLES[config.family]} checkpoint ({config.name}), but of its parameters are "
            f"{'; '.join(said)}. Copy the file again, or check which model it is of"
        )
    return Account(
        {name: ours for name, ours in names.items() if name in found},
        {name: ours for name, ours in text_names.items() if name in found},
        tuple(name for name in found if name not in names and name not in text_names),
    )


def not_needed(
    config: SegmenterConfig, found: Mapping[str, Shape], classes: Sequence[int] = (len(COCO_PANOPTIC),)
) -> list[Shapes]:
    """Names and shapes of what a published file holds and inference does not need, part by part.

    The sizes that the config does not tell are read from the file's own shapes `found`, where they are possible ones:
    of the vocabulary one of `classes`, and the grid of the teacher's position embedding.
    """
    weights = [(count + 1,) for count in classes]
    shown = found.get(_CLASS_WEIGHTS)
    loss: Shapes = {_CLASS_WEIGHTS: shown if shown in weights else weights[0]}
    if config.family == "fcclip":
        return [loss]
    dim, width = config.text.dim, config.pixel_decoder.channels
    heads: Shapes = {"text_kd_logit_scale": ()}
    for head in ("kd_proj", *(f"aux_kd_porj_{layer}" for layer in range(config.query_decoder.layers))):
        heads |= {f"{head}.weight": (dim, width), f"{head}.bias": (dim,)}
    # The teacher is the CLIP that the backbone started from.
    grid = pool_grid(found.get(_TEACHER + "attnpool.positional_embedding")) or _TEACHER_GRID
    with torch.device("meta"):
        teacher = build_backbone(config.backbone)
        teacher.add_module("attnpool", AttentionPool(teacher.channels[-1], grid, dim))
    return [
        loss | {"empty_weight": (1,)},
        heads,
        {_TEACHER + name: tuple(value.shape) for name, value in teacher.state_dict().items()},
    ]


def _any(names: Iterable[str], found: Mapping[str, Shape]) -> bool:
    return any(name in found for name in names)
