"""The layout of GKC's published files ("Global Knowledge Calibration", ICCV 2023)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from ..backbone import build_backbone
from ..config import CLIP_TEMPLATES, SegmenterConfig, TextConfig
from ..fcclip import AttentionPool
from ..model import SegmenterModel
from .account import Shape, Shapes
from .coco_names import COCO_PANOPTIC
from .mask2former import DECODERS, Mask2FormerLayout, Rules, renamed
from .shapes import (
    CONTEXT_LENGTH,
    IMAGENET_PIXELS,
    VOCABULARY,
    ShapeReader,
    pool_grid,
    read_backbone,
    read_pixel_decoder,
    read_query_decoder,
    read_text,
)

_RULES: Rules = (
    *DECODERS,
    (r"text_proj\.(\d+)\.", r"aux_embed_porj_\1.1."),  # spelt so in the files
    (r"no_object$", "non_object_embedding"),
)
_TEACHER = "vision_clip."
_TEACHER_GRID = 16  # of the published teacher's position embedding, made for images of 512 pixels


class GkcLayout(Mask2FormerLayout):
    """GKC: our own model, and beside it the teacher and the distillation heads it was trained with."""

    family = "gkc"
    title = "GKC"
    signature: ClassVar = re.compile(
        r"aux_embed_porj_|embed_proj\.|non_object_embedding$|aux_kd_porj_|vision_clip\.|text_encoder\."
    )
    text_prefix = "text_encoder."
    slim = True

    def build(self, config: SegmenterConfig) -> SegmenterModel:
        """See `Layout`."""
        return SegmenterModel(config)

    def read_config(self, shapes: Mapping[str, Shape], origin: str) -> SegmenterConfig:
        """See `Mask2FormerLayout`."""
        read = ShapeReader(shapes, origin)
        heads = r"(embed_proj|aux_embed_porj_\d+)\.1\.(weight|bias)"
        vector = ((heads, 0, 1), ("non_object_embedding", 1, 1))
        text = read_text(read, "text_encoder", vector, CLIP_TEMPLATES)
        backbone, name = read_backbone(read, r"backbone\.")
        if text is None:
            # The towers of CLIP's R50 and R101 are known; their weights must come from elsewhere.
            dim = read.number("the length of a text vector", *vector)
            text = TextConfig(
                "clip", dim, CONTEXT_LENGTH, 12, 512, 8, VOCABULARY, quick_gelu=True, templates=CLIP_TEMPLATES
            )
        mean, std = IMAGENET_PIXELS
        return SegmenterConfig(
            name=f"gkc_{name}",
            backbone=backbone,
            pixel_decoder=read_pixel_decoder(read),
            query_decoder=read_query_decoder(read),
            text=text,
            pixel_mean=mean,
            pixel_std=std,
            family=self.family,
        )

    def published_name(self, name: str, config: SegmenterConfig) -> str:
        """See `Mask2FormerLayout`. The backbone and the temperature are called the same."""
        last = f"text_proj.{config.query_decoder.layers}."
        if name.startswith(last):
            return name.replace(last, "embed_proj.1.")
        return renamed(name, _RULES)

    def not_needed(
        self, config: SegmenterConfig, found: Mapping[str, Shape], classes: Sequence[int] = (len(COCO_PANOPTIC),)
    ) -> list[Shapes]:
        """See `Mask2FormerLayout`: weights of the loss, distillation heads, and the teacher."""
        [loss] = super().not_needed(config, found, classes)
        dim, width = config.text.dim, config.pixel_decoder.channels
        heads: Shapes = {"text_kd_logit_scale": ()}
        for head in ("kd_proj", *(f"aux_kd_porj_{layer}" for layer in range(config.query_decoder.layers))):
            heads |= {f"{head}.weight": (dim, width), f"{head}.bias": (dim,)}
        # The teacher is the CLIP that the backbone started from. No config tells the grid of its position embedding.
        grid = pool_grid(found.get(_TEACHER + "attnpool.positional_embedding")) or _TEACHER_GRID
        with torch.device("meta"):
            teacher = build_backbone(config.backbone)
            teacher.add_module("attnpool", AttentionPool(teacher.channels[-1], grid, dim))
        return [
            loss | {"empty_weight": (1,)},
            heads,
            {_TEACHER + name: tuple(value.shape) for name, value in teacher.state_dict().items()},
        ]
