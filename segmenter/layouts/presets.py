"""Configs of the published FC-CLIP models. A checkpoint's own config is read from its shapes; these build one without."""

from __future__ import annotations

import dataclasses

from ..config import (
    BackboneConfig,
    PixelDecoderConfig,
    QueryDecoderConfig,
    SegmenterConfig,
    TextConfig,
)
from .coco_names import COCO_PANOPTIC
from .shapes import CLIP_PIXELS, CONTEXT_LENGTH, FCCLIP_TEMPLATES, VOCABULARY


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


def _text(dim: int, layers: int, width: int, quick_gelu: bool) -> TextConfig:
    return TextConfig(
        "clip", dim, CONTEXT_LENGTH, layers, width, width // 64, VOCABULARY, quick_gelu, templates=FCCLIP_TEMPLATES
    )


FCCLIP_PRESETS = {
    "fcclip_r50": fcclip_r50,
    "fcclip_r101": fcclip_r101,
    "fcclip_r50x4": fcclip_r50x4,
    "fcclip_convnext_large": fcclip_convnext_large,
}
