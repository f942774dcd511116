"""Options of an export: what was asked for, and what is exported, checked before anything slow begins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..bundle.errors import UsageError
from ..bundle.manifest import MOST_BATCH, Task
from ..segmenter.config import SegmenterConfig

STRIDE = 32  # the input's sides are multiples of this
MAX_SIDE = 4096  # pixels
MAX_CLASSES = 65536

Masks = Literal["exact", "fast"]
Formulation = Literal["gridsample", "gather"]
Weights = Literal["fp32", "fp16"]
TextPrecision = Literal["fp32", "int8"]
TextVocabulary = Literal["full", "ascii"]


@dataclass(frozen=True)
class ExportRequest:
    """What was asked for. None stands for the model's own default, see `resolve`."""

    size: tuple[int, int] | None = None  # height, width of the input in pixels
    decoder_layers: int | None = None  # stop after this many
    masks: Masks | None = None  # order of upsampling masks and summing classes
    msda: Formulation = "gridsample"  # how deformable attention samples
    max_classes: int = 512  # largest K
    weights: Weights = "fp32"  # type in which the segmenter's weights are stored
    text_precision: TextPrecision = "fp32"  # type in which the text encoder's matrices are stored
    text_vocabulary: TextVocabulary = "full"  # ascii: tokens of other scripts are left out, see `ascii_encoder`
    threshold: float | None = None  # the bundle's default confidence threshold, 0..1; None: the runtime's
    images: Path | None = None  # folder of photos for the parity check; None: those of scikit-image
    task: Task = "semantic"  # panoptic: the graph also gives every query's mask and class logits
    batch: int = 1  # images that the graph takes at once, each with its own classes


@dataclass(frozen=True)
class ExportOptions:
    """One export, fully decided."""

    size: tuple[int, int]  # height, width of the input in pixels
    decoder_layers: int  # depth of the query decoder
    masks: Masks  # exact: masks are upsampled, then classes summed; fast: the other way round
    msda: Formulation  # how deformable attention samples
    max_classes: int  # largest K; up to 256 labels are uint8, beyond int32
    weights: Weights  # how the segmenter's weights are stored; they are computed with in FP32
    text_precision: TextPrecision  # how the text encoder's matrices are stored
    text_vocabulary: TextVocabulary  # which tokens the text encoder knows
    threshold: float | None = None  # the bundle's default confidence threshold, 0..1; None: the runtime's
    images: Path | None = None  # folder of photos for parity; None: those of scikit-image
    task: Task = "semantic"  # panoptic: the graph also gives every query's mask and class logits
    batch: int = 1  # images that the graph takes at once, each with its own classes


def resolve(config: SegmenterConfig, request: ExportRequest | None = None) -> ExportOptions:
    """Fill in the model's defaults and check the request; raises `UsageError`.

    An edge model (one with the small sentence encoder) is exported at 384x384 with `fast` masks, a published one at
    512x512 with `exact` masks, as it was published.
    """
    request = request or ExportRequest()
    edge = config.text.kind == "minilm"
    layers = config.query_decoder.layers
    depth = request.decoder_layers
    if request.task == "panoptic" and not config.query_decoder.queries:
        raise UsageError(f"--task panoptic needs a model with queries, {config.name} has none; use --task semantic")
    if depth and not layers:
        raise UsageError(f"--decoder-layers is {depth}, {config.name} has no query decoder; leave it out")
    if layers and depth is not None and not 1 <= depth <= layers:
        raise UsageError(f"--decoder-layers is {depth}, this model has 1 to {layers}")
    if not 1 <= request.batch <= MOST_BATCH:
        raise UsageError(f"--batch is {request.batch}, expected 1 to {MOST_BATCH} images")
    if request.batch > 1 and config.query_decoder.queries:
        raise UsageError(
            f"--batch is {request.batch}, {config.name} has queries and takes one image at a time; leave it out"
        )
    if not 1 <= request.max_classes <= MAX_CLASSES:
        raise UsageError(f"--max-classes is {request.max_classes}, expected 1 to {MAX_CLASSES}")
    return ExportOptions(
        size=request.size or ((384, 384) if edge else (512, 512)),
        decoder_layers=depth or layers,
        masks=request.masks or ("fast" if edge else "exact"),
        msda=request.msda,
        max_classes=request.max_classes,
        weights=request.weights,
        text_precision=request.text_precision,
        text_vocabulary=request.text_vocabulary,
        threshold=request.threshold,
        images=request.images,
        task=request.task,
        batch=request.batch,
    )


def parse_size(text: str, multiple: int = STRIDE) -> tuple[int, int]:
    """`"512x384"`, width x height as cameras state it, becomes (height, width) = (384, 512).

    Raises `UsageError`, also for sides that are no multiples of `multiple`.
    """
    match = re.fullmatch(r"([0-9]{1,6})[xX]([0-9]{1,6})", text.strip())
    if match is None:
        raise UsageError(f"--size is {text[:40]!r}, expected WIDTHxHEIGHT such as 512x384")
    width, height = int(match[1]), int(match[2])
    for side in (width, height):
        if side % multiple or not multiple <= side <= MAX_SIDE:
            near = min(max(round(side / multiple), 1) * multiple, MAX_SIDE)
            steps = f"multiples of {multiple} " if multiple > 1 else ""
            raise UsageError(
                f"--size is {text.strip()}, both sides must be {steps}from {multiple} to {MAX_SIDE} pixels; "
                f"{near} is the nearest to {side}"
            )
    return height, width
