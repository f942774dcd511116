"""The config of a published checkpoint, read from the shapes of its parameters.

Each number is read from every tensor that shows it, and the majority decides: a single tensor of another shape is then
reported by its own name instead of bending the config to itself.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

from ...bundle.errors import CheckpointError
from ..config import BackboneConfig, PixelDecoderConfig, QueryDecoderConfig, TextConfig

CONTEXT_LENGTH, VOCABULARY = 77, 49408  # of CLIP's tokenizer: a tower of other sizes could not be fed
_LEVELS = 3
_CHANNELS_PER_HEAD = 32
_NORM_GROUPS = 32
_TEXT_CHANNELS_PER_HEAD = 64

# Mean and standard deviation of each channel, RGB, of values 0..255.
IMAGENET_PIXELS = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CLIP_PIXELS = ((122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321579, 70.32316305))

_RESNETS: dict[tuple[tuple[int, ...], int], str] = {
    ((3, 4, 6, 3), 64): "r50",
    ((3, 4, 23, 3), 64): "r101",
    ((4, 6, 10, 6), 80): "r50x4",
    ((6, 8, 18, 8), 96): "r50x16",
}
_CONVNEXTS = {128: "convnext_base", 192: "convnext_large"}

_PIXEL = r"sem_seg_head\.pixel_decoder\."
_QUERY = r"sem_seg_head\.predictor\."


Source = tuple[str, int, int]  # pattern of a parameter's name, axis, factor from that axis's size to the number


class ShapeReader:
    """Names and shapes of a file's parameters, and the numbers that follow from them."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], origin: str) -> None:
        self.shapes, self.origin = shapes, origin

    def number(self, what: str, *sources: Source) -> int:
        """The size that most tensors of `sources` show.

        Raises `CheckpointError` when no tensor shows it, or as many say one thing as another.
        """
        votes: dict[int, list[str]] = {}
        for pattern, axis, factor in sources:
            for name, shape in self.shapes.items():
                if re.fullmatch(pattern, name) and len(shape) > axis:
                    votes.setdefault(shape[axis] * factor, []).append(name)
        if not votes:
            wanted = ", ".join(pattern.replace("\\", "") for pattern, _, _ in sources)
            raise CheckpointError(f"{self.origin}: parameters missing: {wanted}; they give {what}")
        ranked = sorted(votes.items(), key=lambda vote: -len(vote[1]))
        if len(ranked) > 1 and len(ranked[0][1]) == len(ranked[1][1]):
            shown = ", ".join(f"{names[0]} {self.shapes[names[0]]}" for _, names in ranked)
            raise CheckpointError(f"{self.origin}: parameters disagree on {what}: {shown}; copy the file again")
        return ranked[0][0]

    def count(self, prefix: str) -> int:
        """How many layers there are: an index counts where most of a layer's tensors are. `prefix` has one group."""
        found = Counter(int(match[1]) for name in self.shapes if (match := re.match(prefix, name)))
        if not found:
            return 0
        whole = max(found.values())
        return 1 + max(index for index, tensors in found.items() if 2 * tensors > whole)


def read_pixel_decoder(read: ShapeReader) -> PixelDecoderConfig:
    """Config of the pixel decoder under `sem_seg_head`."""
    layer = _PIXEL + r"transformer\.encoder\.layers\.\d+\."
    channels = read.number(
        "the pixel decoder's width", (layer + r"norm[12]\.(weight|bias)", 0, 1), (layer + r"linear2\.weight", 0, 1)
    )
    heads = _heads(channels, "the pixel decoder", read.origin)
    attended = read.number(
        "the points of deformable attention",
        (layer + r"self_attn\.sampling_offsets\.(weight|bias)", 0, 1),
        (layer + r"self_attn\.attention_weights\.(weight|bias)", 0, 2),
    )
    return PixelDecoderConfig(
        channels=channels,
        mask_channels=read.number(
            "the width of the mask features",
            (_PIXEL + r"mask_features\.(weight|bias)", 0, 1),
            (_PIXEL + r"layer_1\.norm\.(weight|bias)", 0, 1),
            (_PIXEL + r"adapter_1\.norm\.(weight|bias)", 0, 1),
        ),
        attention_levels=_LEVELS,
        layers=read.count(_PIXEL + r"transformer\.encoder\.layers\.(\d+)\."),
        heads=heads,
        points=max(1, attended // (2 * heads * _LEVELS)),
        ffn=read.number(
            "the pixel decoder's feed-forward width",
            (layer + r"linear1\.(weight|bias)", 0, 1),
            (layer + r"linear2\.weight", 1, 1),
        ),
        norm_groups=_NORM_GROUPS,
    )


def read_query_decoder(read: ShapeReader) -> QueryDecoderConfig:
    """Config of the query decoder under `sem_seg_head`."""
    layer = _QUERY + r"transformer_ffn_layers\.\d+\."
    width = read.number(
        "the query decoder's width", (_QUERY + r"transformer_\w+_layers\.\d+\.norm\.(weight|bias)", 0, 1)
    )
    return QueryDecoderConfig(
        queries=read.number("the number of queries", (_QUERY + r"query_(feat|embed)\.weight", 0, 1)),
        layers=read.count(_QUERY + r"transformer_cross_attention_layers\.(\d+)\."),
        heads=_heads(width, "the query decoder", read.origin),
        ffn=read.number(
            "the query decoder's feed-forward width",
            (layer + r"linear1\.(weight|bias)", 0, 1),
            (layer + r"linear2\.weight", 1, 1),
        ),
    )


def _heads(channels: int, where: str, origin: str) -> int:
    if channels % _CHANNELS_PER_HEAD:
        raise CheckpointError(
            f"{origin}: {where} is {channels} wide, expected a multiple of {_CHANNELS_PER_HEAD}; "
            "the file belongs to another model"
        )
    return channels // _CHANNELS_PER_HEAD


def read_backbone(read: ShapeReader, visual: str) -> tuple[BackboneConfig, str]:
    """Config of CLIP's image tower without its pooling, and its short name; its parameters begin with the pattern
    `visual`."""
    stages = tuple(read.count(visual + rf"trunk\.stages\.{stage}\.blocks\.(\d+)\.") for stage in range(4))
    if any(stages):
        width = read.number(
            "the backbone's width",
            (visual + r"trunk\.stem\.\d\.(weight|bias)", 0, 1),
            (visual + r"trunk\.stages\.0\.blocks\.\d+\.(gamma|norm\.weight|conv_dw\.weight)", 0, 1),
        )
        return BackboneConfig("convnext", stages, width), _CONVNEXTS.get(width, "convnext")
    layers = tuple(read.count(visual + rf"layer{stage}\.(\d+)\.") for stage in range(1, 5))
    if not any(layers):
        first = visual.replace("\\", "") + "layer1.0.conv1.weight"
        raise CheckpointError(f"{read.origin}: parameters missing: {first} and the rest of the backbone")
    if not all(layers):
        raise CheckpointError(
            f"{read.origin}: the backbone has {layers} blocks in its stages, expected CLIP's ResNet or ConvNeXt; "
            "other backbones are not supported"
        )
    width = read.number(
        "the backbone's width",
        (visual + r"bn3\.(weight|bias|running_mean|running_var)", 0, 1),
        (visual + r"conv3\.weight", 0, 1),
        (visual + r"layer1\.\d+\.bn[12]\.(weight|bias)", 0, 1),
    )
    return BackboneConfig("clip_resnet", layers, width), _RESNETS.get((layers, width), "resnet")


def pool_grid(shape: tuple[int, ...] | None) -> int:
    """Side of the grid in a position embedding of attention pooling, one row and a square of rows; 0 if it is none."""
    rows = shape[0] - 1 if shape else 0
    side = math.isqrt(max(0, rows))
    return side if side * side == rows else 0


def read_text(
    read: ShapeReader, tower: str, vector: tuple[Source, ...], templates: tuple[str, ...]
) -> TextConfig | None:
    """Config of the CLIP text tower under the name `tower`, None if there is none.

    `vector` are the sources of the length of a text vector, see `ShapeReader.number`.
    """
    prefix = re.escape(tower) + r"\."
    block = prefix + r"transformer\.resblocks\.\d+\."
    layers = read.count(prefix + r"transformer\.resblocks\.(\d+)\.")
    if not layers:
        return None
    width = read.number("the text encoder's width", (block + r"ln_[12]\.(weight|bias)", 0, 1))
    # OpenAI trained its towers with the approximation, LAION its ConvNeXts with the exact function.
    exact = any("clip_model.visual.trunk." in name for name in read.shapes)
    return TextConfig(
        kind="clip",
        dim=read.number("the length of a text vector", *vector),
        context_length=CONTEXT_LENGTH,
        layers=layers,
        width=width,
        heads=max(1, width // _TEXT_CHANNELS_PER_HEAD),
        vocabulary=VOCABULARY,
        quick_gelu=not exact,
        templates=templates,
    )
