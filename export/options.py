"""What an export is asked for, checked before anything slow begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..bundle.errors import UsageError
from ..bundle.manifest import Task
from ..segmenter.config import SegmenterConfig

STRIDE = 32  # the input's sides are multiples of this
MAX_SIDE = 4096  # pixels
MAX_CLASSES = 65536

Masks = Literal["exact", "fast"]
Formulation = Literal["gridsample", "gather"]
Weights = Literal["fp32", "fp16"]
TextPrecision = Literal["fp32", "int8"]


@dataclass(frozen=True)
class ExportOptions:
    """One export, fully decided."""

    size: tuple[int, int]  # height, width of the input in pixels
    decoder_layers: int
    masks: Masks
    msda: Formulation
    max_classes: int  # largest K; up to 256 labels are uint8, beyond int32
    weights: Weights  # how the segmenter's weights are stored; they are computed with in FP32
    text_precision: TextPrecision  # how the text encoder's matrices are stored
    images: Path | None = None  # folder of photos for parity; None: those of scikit-image
    task: Task = "semantic"  # panoptic: the graph also gives every query's mask and class logits


def resolve(
    config: SegmenterConfig,
    size: str | None = None,
    decoder_layers: int | None = None,
    masks: Masks | None = None,
    msda: Formulation = "gridsample",
    max_classes: int = 512,
    weights: Weights = "fp32",
    text_precision: TextPrecision = "fp32",
    images: Path | None = None,
    task: Task = "semantic",
) -> ExportOptions:
    """Fill in what depends on the model, and refuse what it cannot do; raises `UsageError`.

    An edge model is exported small and fast; a published one as it was published.
    """
    edge = config.name == "mini"
    layers = config.query_decoder.layers
    if decoder_layers is not None and not 1 <= decoder_layers <= layers:
        raise UsageError(f"--decoder-layers is {decoder_layers}, this model has 1 to {layers}")
    if not 1 <= max_classes <= MAX_CLASSES:
        raise UsageError(f"--max-classes is {max_classes}, expected 1 to {MAX_CLASSES}")
    return ExportOptions(
        size=parse_size(size or ("384x384" if edge else "512x512")),
        decoder_layers=decoder_layers or layers,
        masks=masks or ("fast" if edge else "exact"),
        msda=msda,
        max_classes=max_classes,
        weights=weights,
        text_precision=text_precision,
        images=images,
        task=task,
    )


def parse_size(text: str) -> tuple[int, int]:
    """`"384x512"` is height 384, width 512; raises `UsageError`."""
    match = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text.strip())
    if match is None:
        raise UsageError(f"--size is {text[:40]!r}, expected HEIGHTxWIDTH such as 384x512")
    height, width = int(match[1]), int(match[2])
    for side in (height, width):
        if side % STRIDE or not STRIDE <= side <= MAX_SIDE:
            near = min(max(round(side / STRIDE), 1) * STRIDE, MAX_SIDE)
            raise UsageError(
                f"--size is {text.strip()}, both sides must be multiples of {STRIDE} from {STRIDE} to {MAX_SIDE}; "
                f"{near} is the nearest to {side}"
            )
    return height, width
