"""Writes a bundle: both graphs, the tokenizer and the manifest, compared with the checkpoint before they appear."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch

from ..bundle.bundle import MANIFEST, Bundle, sha256, written_whole
from ..bundle.errors import CheckpointError
from ..bundle.manifest import SEGMENTER, TEXT_ENCODER, TOKENIZER, VECTORS, GraphSpec, Manifest, TensorSpec
from ..runtime.vocabulary.cache import packed
from ..runtime.vocabulary.text_encoder import TextEncoder
from ..segmenter.model import ImageModel, MaskModel
from ..segmenter.text.encoder import load_text_encoder
from .graph import SegmenterGraph, bgr_input
from .onnx_writer import OPSET, Port, save, to_onnx
from .options import ExportOptions
from .parity import Parity, Tell, measure
from .parity_photos import photo_inputs
from .text_export import export_text, text_spec
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
    vocabulary = _vocabulary(extras, origin)
    related, stuff = _related(extras, origin), _stuff(extras, origin)
    provenance = _provenance(extras, origin)
    with written_whole(target) as work:
        photos = photo_inputs(options.images, options.size)
        encoder = load_text_encoder(model.config.text, extras.get("text_encoder"), origin)
        tell("writing the text encoder")
        save(export_text(encoder, options.text_precision), work / TEXT_ENCODER)
        (work / TOKENIZER).write_text(encoder.tokenizer.to_str(), encoding="utf-8")
        tell("writing the segmenter")
        save(export_segmenter(model, options), work / SEGMENTER)
        manifest = Manifest(
            name=target.name.removesuffix(".ovs"),
            created_by=f"ovs-edge {importlib.metadata.version('ovs-edge')}",
            graph=_graph_spec(model, options),
            text=text_spec(encoder),
            training_vocabulary=vocabulary,
            opset=OPSET,
            precisions={"fp32": SEGMENTER},
            related=related,
            stuff=stuff,
            digests={name: sha256(work / name) for name in (SEGMENTER, TEXT_ENCODER, TOKENIZER)},
            provenance={
                "preset": model.config.name,
                "checkpoint_sha256": sha256(checkpoint.path),
                "checkpoint": provenance,
                "weights": options.weights,
                "text_precision": options.text_precision,
                "torch": torch.__version__,
                "onnx": onnx.__version__,
            },
        )
        # The runtime opens the files written so far: what is compared is what a device will read.
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        tell("encoding the training vocabulary")
        (work / VECTORS).write_bytes(_name_vectors(Bundle.open(work), model))
        manifest = dataclasses.replace(manifest, digests={**manifest.digests, VECTORS: sha256(work / VECTORS)})
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        parity = measure(model, encoder, Bundle.open(work), options, photos, tell)
        on_parity(parity)
        parity.check()
        manifest = dataclasses.replace(manifest, parity=parity.to_dict())
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _name_vectors(bundle: Bundle, model: ImageModel) -> bytes:
    """Vectors of the training names, as an `.npz`: the background classes are ready at the first frame.

    They come from the bundle's own text encoder. A model that recognises its training names by their vectors
    (FC-CLIP) holds them itself: its bundle has the checkpoint's, whatever precision the text encoder is stored in.
    """
    names = list(dict.fromkeys(name for entry in bundle.manifest.training_vocabulary for name in entry))
    held = model.training_vectors()
    if held is not None and len(held) == len(names):
        return packed(names, held.numpy())
    with tempfile.TemporaryDirectory() as cache:
        return packed(names, TextEncoder(bundle, cache_folder=Path(cache)).encode(names))


def export_segmenter(model: ImageModel, options: ExportOptions) -> onnx.ModelProto:
    """The segmenter's ONNX graph, with the inputs and outputs that the manifest states."""
    model.use_formulation(options.msda)
    dtype = torch.uint8 if options.max_classes <= 256 else torch.int32
    raw = options.task == "panoptic"
    graph = SegmenterGraph(model, options.masks, options.decoder_layers, dtype, raw=raw).eval()
    # Sizes that differ from each other and from 1, so that the exporter cannot mix up two axes.
    example = (torch.zeros((1, *options.size, 3), dtype=torch.uint8), torch.ones(6, 4, model.config.text.dim))
    outputs = [spec.name for spec in _outputs(model, options)]
    ports = (Port("image"), Port("text_embeddings", ((0, "K"), (1, "S"))))
    if isinstance(model, MaskModel):
        model.query_decoder.resize_features = True
    try:
        with bgr_input(graph):
            onnx_model = to_onnx(graph, example, ports, outputs)
    finally:
        if isinstance(model, MaskModel):
            model.query_decoder.resize_features = False  # parity compares with torch as published
    if options.weights == "fp16":
        store_fp16(onnx_model)
    return onnx_model


def _graph_spec(model: ImageModel, options: ExportOptions) -> GraphSpec:
    height, width = options.size
    return GraphSpec(
        inputs=(
            TensorSpec("image", "uint8", (1, height, width, 3)),
            TensorSpec("text_embeddings", "float32", ("K", "S", model.config.text.dim)),
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
        TensorSpec("labels", "uint8" if options.max_classes <= 256 else "int32", (1, height, width)),
        TensorSpec("confidence", "float32", (1, height, width)),
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


def _provenance(extras: dict[str, Any], origin: str) -> dict[str, Any]:
    """The checkpoint's provenance; absolute paths of the training machine are cut to their last part."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): cut(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [cut(item) for item in value]
        return Path(value).name if isinstance(value, str) and value.startswith("/") else value

    try:
        result = cut(extras.get("provenance", {}))
        json.dumps(result)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{origin}: its provenance is not plain data ({error}); train it again") from error
    return result if isinstance(result, dict) else {"note": result}
