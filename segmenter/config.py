"""What a segmenter is made of. A config and a state dict are all that a checkpoint holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..bundle.errors import CheckpointError, UsageError

BackboneKind = Literal["clip_resnet", "convnext", "efficientnet_lite0", "efficientnet_lite2"]
TextKind = Literal["clip", "minilm"]


@dataclass(frozen=True)
class BackboneConfig:
    """Feature extractor with maps at strides 4, 8, 16 and 32."""

    kind: BackboneKind
    layers: tuple[int, ...] = ()  # clip_resnet, convnext: blocks of each stage
    width: int = 0  # channels after the stem; res2..res5 have 4, 8, 16, 32 (convnext: 1, 2, 4, 8) times as many
    pool_grid: int = 0  # clip_resnet in fcclip: side of the position grid of CLIP's attention pooling


@dataclass(frozen=True)
class PixelDecoderConfig:
    """Multi-scale deformable attention over the coarse levels, FPN steps from there to stride 4."""

    channels: int  # of every token level
    mask_channels: int  # of the mask features at stride 4
    attention_levels: int  # 3: strides 32, 16, 8; 2: strides 32, 16, a quarter of the tokens
    layers: int
    heads: int
    points: int  # sampled per head and level
    ffn: int  # hidden width
    norm_groups: int  # of GroupNorm; 0 is BatchNorm, which costs nothing once folded into its convolution
    separable: bool = False  # FPN convolutions as depthwise and pointwise


@dataclass(frozen=True)
class QueryDecoderConfig:
    """Masked-attention transformer decoder."""

    queries: int
    layers: int
    heads: int
    ffn: int  # hidden width


@dataclass(frozen=True)
class DenseConfig:
    """Convolutional pyramid of a model without queries, and how its places are compared with names."""

    channels: int  # at strides 32 and 16
    fine_channels: int  # at stride 8
    detail_channels: int  # at stride 4
    embedding: int  # length of the vectors that places and names are compared by
    candidates: int  # classes that are compared at stride 4 too: those that win most places, or nearly
    separable_fine: bool = False  # the 3x3 convolution at stride 8 is a depthwise and a pointwise one


@dataclass(frozen=True)
class TextConfig:
    """Text encoder whose vectors the classifier compares with."""

    kind: TextKind
    dim: int  # D
    context_length: int  # tokens
    layers: int
    width: int
    heads: int
    vocabulary: int  # token ids
    quick_gelu: bool = False  # OpenAI's CLIP weights were trained with x * sigmoid(1.702 x)
    templates: tuple[str, ...] = ("{}",)


@dataclass(frozen=True)
class SegmenterConfig:
    """A whole model."""

    name: str
    backbone: BackboneConfig
    pixel_decoder: PixelDecoderConfig
    query_decoder: QueryDecoderConfig
    text: TextConfig
    pixel_mean: tuple[float, float, float]  # RGB, of values 0..255
    pixel_std: tuple[float, float, float]
    family: str = "gkc"  # which checkpoint layout, and so which model class, see `layouts.registry`
    seen_names: int = 0  # fcclip: names whose vectors the model holds as those it was trained with
    dense: DenseConfig | None = None  # family "dense": what stands in place of pixel and query decoder

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, so that a checkpoint loads with `weights_only=True`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> SegmenterConfig:
        """Inverse of `to_dict`; raises `CheckpointError` for entries this version does not know."""
        parts = {
            "backbone": BackboneConfig,
            "pixel_decoder": PixelDecoderConfig,
            "query_decoder": QueryDecoderConfig,
            "text": TextConfig,
            "dense": DenseConfig,
        }
        try:
            built: dict[str, Any] = {}
            for key, value in raw.items():
                if key in parts and value is not None:
                    built[key] = parts[key](**{name: _frozen(item) for name, item in value.items()})
                else:
                    built[key] = _frozen(value)
            return cls(**built)
        except (TypeError, AttributeError) as error:
            raise CheckpointError(
                f"the checkpoint's model config is not understood ({error}); update ovs-edge"
            ) from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# OpenAI's seven best prompts and the plain name: cheap, and within noise of the eighty.
CLIP_TEMPLATES = (
    "{}.",
    "a photo of a {}.",
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

_CLIP_R50_TEXT = TextConfig("clip", 1024, 77, 12, 512, 8, 49408, quick_gelu=True, templates=CLIP_TEMPLATES)
_CLIP_R101_TEXT = dataclasses.replace(_CLIP_R50_TEXT, dim=512)
_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_STD = (58.395, 57.12, 57.375)


def gkc_r50() -> SegmenterConfig:
    """GKC with CLIP ResNet-50, as published."""
    return SegmenterConfig(
        name="gkc_r50",
        backbone=BackboneConfig("clip_resnet", (3, 4, 6, 3), 64),
        pixel_decoder=PixelDecoderConfig(
            channels=256, mask_channels=256, attention_levels=3, layers=6, heads=8, points=4, ffn=1024, norm_groups=32
        ),
        query_decoder=QueryDecoderConfig(queries=100, layers=9, heads=8, ffn=2048),
        text=_CLIP_R50_TEXT,
        pixel_mean=_IMAGENET_MEAN,
        pixel_std=_IMAGENET_STD,
    )


def gkc_r101() -> SegmenterConfig:
    """GKC with CLIP ResNet-101."""
    return dataclasses.replace(
        gkc_r50(),
        name="gkc_r101",
        backbone=BackboneConfig("clip_resnet", (3, 4, 23, 3), 64),
        text=_CLIP_R101_TEXT,
    )


def mini() -> SegmenterConfig:
    """The same design at edge size: EfficientNet-Lite0, narrow decoders, a sentence encoder for text."""
    return SegmenterConfig(
        name="mini",
        backbone=BackboneConfig("efficientnet_lite0"),
        pixel_decoder=PixelDecoderConfig(
            channels=128,
            mask_channels=64,
            attention_levels=2,
            layers=2,
            heads=8,
            points=1,  # four gain nothing here, and cost a tenth of a frame
            ffn=512,
            norm_groups=0,
            separable=True,
        ),
        query_decoder=QueryDecoderConfig(queries=40, layers=3, heads=8, ffn=512),
        text=TextConfig("minilm", 384, 128, 6, 384, 12, 30522),
        pixel_mean=(127.0, 127.0, 127.0),
        pixel_std=(128.0, 128.0, 128.0),
    )


def dense_mini() -> SegmenterConfig:
    """Edge size without queries: fewer milliseconds a frame than `mini`, and trained in fewer steps."""
    return dataclasses.replace(
        mini(),
        name="dense_mini",
        family="dense",
        pixel_decoder=PixelDecoderConfig(
            channels=0, mask_channels=0, attention_levels=0, layers=0, heads=0, points=0, ffn=0, norm_groups=0
        ),
        query_decoder=QueryDecoderConfig(queries=0, layers=0, heads=0, ffn=0),
        dense=DenseConfig(
            channels=128, fine_channels=96, detail_channels=32, embedding=64, candidates=16, separable_fine=True
        ),
    )


def dense_small() -> SegmenterConfig:
    """`dense_mini` on EfficientNet-Lite2 with a wider pyramid."""
    return dataclasses.replace(
        dense_mini(),
        name="dense_small",
        backbone=BackboneConfig("efficientnet_lite2"),
        dense=DenseConfig(
            channels=160, fine_channels=128, detail_channels=48, embedding=96, candidates=16, separable_fine=True
        ),
    )


PRESETS = {
    "gkc_r50": gkc_r50, "gkc_r101": gkc_r101, "mini": mini, "dense_mini": dense_mini, "dense_small": dense_small,
}  # fmt: skip


def preset(name: str, presets: Mapping[str, Callable[[], SegmenterConfig]] = PRESETS) -> SegmenterConfig:
    """One of `presets` by name; raises `UsageError` naming those there are."""
    if name not in presets:
        raise UsageError(f"no preset {name!r}; there are: {', '.join(presets)}")
    return presets[name]()
