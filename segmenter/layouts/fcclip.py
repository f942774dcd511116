"""The layout of FC-CLIP's published files (Yu et al., NeurIPS 2023), and configs of its published sizes.

A checkpoint's own config is read from its shapes; the presets build a model without a file.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from ...bundle.errors import CheckpointError
from ..config import (
    BackboneConfig,
    PixelDecoderConfig,
    QueryDecoderConfig,
    SegmenterConfig,
    TextConfig,
)
from ..fcclip import FCClip
from ..model import MaskModel
from .account import Shape
from .coco_names import COCO_PANOPTIC
from .mask2former import DECODERS, QUERY, Mask2FormerLayout, Rules, renamed
from .name_vectors import name_vectors
from .shapes import (
    CLIP_PIXELS,
    CONTEXT_LENGTH,
    VOCABULARY,
    ShapeReader,
    pool_grid,
    read_backbone,
    read_pixel_decoder,
    read_query_decoder,
    read_text,
)

_CLIP = "backbone.clip_model."
_POOL_POSITIONS = _CLIP + "visual.attnpool.positional_embedding"

_RULES: Rules = (
    *DECODERS,
    (r"mask_pooling_proj\.", QUERY + "_mask_pooling_proj."),
    (r"no_object$", "void_embedding.weight"),
    (r"logit_scale$", QUERY + "logit_scale"),
    (r"clip_logit_scale$", _CLIP + "logit_scale"),
)
_RESNET_RULES: Rules = (
    (r"backbone\.", _CLIP + "visual."),
    (r"pool\.", _CLIP + "visual.attnpool."),
    *_RULES,
)
_CONVNEXT_RULES: Rules = (
    (r"backbone\.", _CLIP + "visual.trunk."),
    (r"pool\.norm\.", _CLIP + "visual.trunk.head.norm."),
    (r"pool\.", _CLIP + "visual.head.mlp."),
    *_RULES,
)

# The prompts FC-CLIP's numbers were measured with.
FCCLIP_TEMPLATES = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    "a photo of a small {}.",
    "a photo of a medium {}.",
    "a photo of a large {}.",
    "This is a photo of a small {}.",
    "This is a photo of a medium {}.",
    "This is a photo of a large {}.",
    "There is a small {} in the scene.",
    "There is a medium {} in the scene.",
    "There is a large {} in the scene.",
)


def fcclip_r50() -> SegmenterConfig:
    """CLIP ResNet-50, OpenAI's weights."""
    mean, std = CLIP_PIXELS
    return SegmenterConfig(
        name="fcclip_r50",
        backbone=BackboneConfig("clip_resnet", (3, 4, 6, 3), 64, pool_grid=7),
        pixel_decoder=PixelDecoderConfig(
            channels=256, mask_channels=256, attention_levels=3, layers=6, heads=8, points=4, ffn=1024, norm_groups=32
        ),
        query_decoder=QueryDecoderConfig(queries=250, layers=9, heads=8, ffn=2048),
        text=_text(dim=1024, layers=12, width=512, quick_gelu=True),
        pixel_mean=mean,
        pixel_std=std,
        family="fcclip",
        seen_names=sum(len(names) for names in COCO_PANOPTIC),
    )


def fcclip_r101() -> SegmenterConfig:
    """CLIP ResNet-101, OpenAI's weights."""
    return dataclasses.replace(
        fcclip_r50(),
        name="fcclip_r101",
        backbone=BackboneConfig("clip_resnet", (3, 4, 23, 3), 64, pool_grid=7),
        text=_text(dim=512, layers=12, width=512, quick_gelu=True),
    )


def fcclip_r50x4() -> SegmenterConfig:
    """CLIP ResNet-50x4, OpenAI's weights."""
    return dataclasses.replace(
        fcclip_r50(),
        name="fcclip_r50x4",
        backbone=BackboneConfig("clip_resnet", (4, 6, 10, 6), 80, pool_grid=9),
        text=_text(dim=640, layers=12, width=640, quick_gelu=True),
    )


def fcclip_convnext_large() -> SegmenterConfig:
    """CLIP ConvNeXt-Large at 320 pixels, LAION's weights: the most accurate one."""
    return dataclasses.replace(
        fcclip_r50(),
        name="fcclip_convnext_large",
        backbone=BackboneConfig("convnext", (3, 3, 27, 3), 192),
        text=_text(dim=768, layers=16, width=768, quick_gelu=False),
    )


def _text(dim: int, layers: int, width: int, *, quick_gelu: bool) -> TextConfig:
    return TextConfig(
        "clip", dim, CONTEXT_LENGTH, layers, width, width // 64, VOCABULARY, quick_gelu, templates=FCCLIP_TEMPLATES
    )


FCCLIP_PRESETS = {
    "fcclip_r50": fcclip_r50,
    "fcclip_r101": fcclip_r101,
    "fcclip_r50x4": fcclip_r50x4,
    "fcclip_convnext_large": fcclip_convnext_large,
}


class FCClipLayout(Mask2FormerLayout):
    """FC-CLIP: a whole CLIP is in the file, its image tower the backbone."""

    family = "fcclip"
    title = "FC-CLIP"
    presets: ClassVar = FCCLIP_PRESETS
    signature: ClassVar = re.compile(
        r"backbone\.clip_model\.|void_embedding\.|sem_seg_head\.predictor\._mask_pooling_proj\."
    )
    text_prefix = _CLIP

    def build(self, config: SegmenterConfig) -> FCClip:
        """See `Layout`."""
        return FCClip(config)

    def read_config(self, shapes: Mapping[str, Shape], origin: str) -> SegmenterConfig:
        """See `Mask2FormerLayout`."""
        read = ShapeReader(shapes, origin)
        tower = "backbone.clip_model"
        last = r"sem_seg_head\.predictor\.class_embed\.layers\.2\.(weight|bias)"
        vector = ((re.escape(tower) + r"\.text_projection", 1, 1), (last, 0, 1), (r"void_embedding\.weight", 1, 1))
        text = read_text(read, tower, vector, FCCLIP_TEMPLATES)
        backbone, name = read_backbone(read, r"backbone\.clip_model\.visual\.")
        if backbone.kind == "clip_resnet":
            backbone = dataclasses.replace(backbone, pool_grid=_grid(read))
        if text is None:
            raise CheckpointError(
                f"{origin}: parameters missing: {tower}.text_projection and the rest of the text encoder"
            )
        mean, std = CLIP_PIXELS
        return SegmenterConfig(
            name=f"fcclip_{name}",
            backbone=backbone,
            pixel_decoder=read_pixel_decoder(read),
            query_decoder=read_query_decoder(read),
            text=text,
            pixel_mean=mean,
            pixel_std=std,
            family=self.family,
        )

    def published_name(self, name: str, config: SegmenterConfig) -> str:
        """See `Mask2FormerLayout`."""
        return renamed(name, _CONVNEXT_RULES if config.backbone.kind == "convnext" else _RESNET_RULES)

    def complete(self, model: MaskModel, extras: dict[str, Any], origin: str) -> None:
        """Give the model the vectors of its training names, by the file's own text tower."""
        assert isinstance(model, FCClip)
        names = list(dict.fromkeys(name for entry in extras["training_vocabulary"] for name in entry))
        model.set_seen_vectors(name_vectors(model.config.text, extras["text_encoder"], names, origin))


def _grid(read: ShapeReader) -> int:
    """Side of the position grid of CLIP's attention pooling."""
    shape = read.shapes.get(_POOL_POSITIONS)
    if shape is None:
        raise CheckpointError(
            f"{read.origin}: parameters missing: {_POOL_POSITIONS}; it gives the grid of CLIP's attention pooling"
        )
    grid = pool_grid(shape)
    if not grid:
        raise CheckpointError(
            f"{read.origin}: parameters of another shape: {_POOL_POSITIONS} {shape}, expected one row and a square "
            "grid of rows"
        )
    return grid
