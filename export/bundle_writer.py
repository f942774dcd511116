"""Writes a bundle: both graphs, the tokenizer and the manifest, compared with the checkpoint before they appear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from ..bundle.bundle import Bundle, sha256
from ..bundle.errors import CheckpointError
from ..bundle.manifest import GraphSpec, Manifest, TensorSpec
from ..runtime.examples.region_spec import RegionSpec
from ..segmenter.model import ImageModel, MaskModel
from ..segmenter.text.encoder import TorchTextEncoder
from .draft import BundleDraft, Photos, plain, write_draft
from .graph import SegmenterGraph, bgr_input
from .onnx_writer import Port, to_onnx
from .options import ExportOptions
from .parity import Parity, Tell, measure
from .regions.values import hide_values, region_spec, traced_names, with_statistics
from .weights import store_fp16


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read."""

    path: Path
    model: ImageModel  # in eval mode
    extras: dict[str, Any]  # what else the file holds: training vocabulary, provenance, a text encoder's weights


def write_bundle(
    target: Path,
    checkpoint: Checkpoint,
    options: ExportOptions,
    tell: Tell,
    on_parity: Callable[[Parity], None],
) -> Manifest:
    """Export `checkpoint` into the bundle `target`; `on_parity` is given the comparison before it is judged.

    Nothing appears at `target` unless every comparison passes. Raises `ParityError`, `CheckpointError`, `BundleError`.
    """
    model, extras = checkpoint.model, checkpoint.extras
    origin = str(checkpoint.path)
    draft = BundleDraft(
        origin=origin,
        digest=sha256(checkpoint.path),
        preset=model.config.name,
        text=model.config.text,
        text_state=extras.get("text_encoder"),
        graph=_graph_spec(model, options),
        weights=options.weights,
        text_precision=options.text_precision,
        text_vocabulary=options.text_vocabulary,
        images=options.images,
        threshold=options.threshold,
        training_vocabulary=_vocabulary(extras, origin),
        related=_related(extras, origin),
        stuff=_stuff(extras, origin),
        provenance=plain(extras.get("provenance", {}), origin),
    )
    return write_draft(target, draft, _ExportedImageModel(model, options), tell, on_parity)


@dataclass(frozen=True)
class _ExportedImageModel:
    """See `ExportedModel`."""

    model: ImageModel
    options: ExportOptions

    def graph(self) -> onnx.ModelProto:
        return export_segmenter(self.model, self.options)

    def regions(self, photos: Photos) -> RegionSpec | None:
        spec = region_spec(self.model, self.options)
        return None if spec is None else with_statistics(spec, self.model, photos)

    def parity(self, encoder: TorchTextEncoder, bundle: Bundle, photos: Photos, tell: Tell) -> Parity:
        return measure(self.model, encoder, bundle, self.options, photos, tell)

    def name_vectors(self, names: list[str]) -> npt.NDArray[np.float32] | None:
        held = self.model.training_vectors()
        return held.numpy() if held is not None and len(held) == len(names) else None


def export_segmenter(model: ImageModel, options: ExportOptions) -> onnx.ModelProto:
    """The segmenter's ONNX graph, with the inputs and outputs that the manifest states.

    What tells the vectors of regions is inside the graph, under the names of `region_spec`.
    """
    model.use_formulation(options.msda)
    dtype = torch.uint8 if options.max_classes <= 256 else torch.int32
    raw = options.task == "panoptic"
    regions = region_spec(model, options)
    graph = SegmenterGraph(
        model, options.masks, options.decoder_layers, dtype, raw=raw, regions=regions is not None
    ).eval()
    # Sizes that differ from each other and from 1, so that the exporter cannot mix up two axes.
    words, axis = torch.ones(6, 4, model.config.text.dim), 0
    if options.batch > 1:
        words, axis = words.expand(options.batch, -1, -1, -1).contiguous(), 1
    example = (torch.zeros((options.batch, *options.size, 3), dtype=torch.uint8), words)
    outputs = [spec.name for spec in _outputs(model, options)]
    ports = (Port("image"), Port("text_embeddings", ((axis, "K"), (axis + 1, "S"))))
    if isinstance(model, MaskModel):
        model.query_decoder.resize_features = True
    try:
        with bgr_input(graph):
            onnx_model = to_onnx(graph, example, ports, traced_names(regions, outputs))
    finally:
        if isinstance(model, MaskModel):
            model.query_decoder.resize_features = False  # parity compares with torch as published
    hide_values(onnx_model, len(outputs), regions)
    if options.weights == "fp16":
        store_fp16(onnx_model)
    return onnx_model


def _graph_spec(model: ImageModel, options: ExportOptions) -> GraphSpec:
    height, width = options.size
    several = () if options.batch == 1 else (options.batch,)
    return GraphSpec(
        inputs=(
            TensorSpec("image", "uint8", (options.batch, height, width, 3)),
            TensorSpec("text_embeddings", "float32", (*several, "K", "S", model.config.text.dim)),
        ),
        outputs=_outputs(model, options),
        max_classes=options.max_classes,
        masks=options.masks,
        msda=options.msda,
        decoder_layers=options.decoder_layers,
        stride=1,
        task=options.task,
    )


def _outputs(model: ImageModel, options: ExportOptions) -> tuple[TensorSpec, ...]:
    height, width = options.size
    result = (
        TensorSpec("labels", "uint8" if options.max_classes <= 256 else "int32", (options.batch, height, width)),
        TensorSpec("confidence", "float32", (options.batch, height, width)),
    )
    if options.task == "semantic":
        return result
    queries = model.config.query_decoder.queries
    return (
        *result,
        TensorSpec("mask_logits", "float32", (1, queries, height // 4, width // 4)),
        TensorSpec("class_logits", "float32", (1, queries, "K + 1")),
    )


def _vocabulary(extras: dict[str, Any], origin: str) -> tuple[tuple[str, ...], ...]:
    raw = extras.get("training_vocabulary", [])
    if not isinstance(raw, list | tuple) or not all(_is_names(names) and names for names in raw):
        raise CheckpointError(f"{origin}: the training vocabulary is not a list of lists of names; train it again")
    return tuple(tuple(names) for names in raw)


def _related(extras: dict[str, Any], origin: str) -> dict[str, tuple[str, ...]]:
    raw = extras.get("related", {})
    if not isinstance(raw, dict) or not _is_names(list(raw)) or not all(map(_is_names, raw.values())):
        raise CheckpointError(f"{origin}: the related words are not names with lists of words; train it again")
    return {name: tuple(words) for name, words in raw.items()}


def _stuff(extras: dict[str, Any], origin: str) -> tuple[str, ...]:
    raw = extras.get("stuff", [])
    if not _is_names(raw):
        raise CheckpointError(f"{origin}: the stuff classes are not a list of names; train it again")
    return tuple(raw)


def _is_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
