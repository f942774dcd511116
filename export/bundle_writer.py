"""Checkpoint to bundle: both graphs, the tokenizer and the manifest, compared with their source, published whole."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch

from ..bundle.bundle import MANIFEST, Bundle, sha256, written_whole
from ..bundle.errors import CheckpointError
from ..bundle.manifest import SEGMENTER, TEXT_ENCODER, TOKENIZER, VECTORS, GraphSpec, Manifest, TensorSpec
from ..runtime.vocabulary.cache import packed
from ..runtime.vocabulary.text_encoder import TextEncoder
from ..segmenter.fcclip import FCClip
from ..segmenter.model import MaskModel
from ..segmenter.text.encoder import load_text_encoder
from .graph import SegmenterGraph, reading_bgr
from .onnx_writer import OPSET, Port, save, to_onnx
from .options import ExportOptions
from .parity import Parity, Tell, measure
from .parity_photos import photo_inputs
from .text_export import export_text, text_spec
from .weights import halve


def write_bundle(
    target: Path,
    checkpoint: Path,
    model: MaskModel,
    extras: dict[str, Any],
    options: ExportOptions,
    tell: Tell,
    report: Callable[[Parity], None],
) -> Manifest:
    """Export `model`, read from `checkpoint`, into the bundle `target`; `report` is given the parity before it counts.

    Nothing appears at `target` unless every comparison holds. Raises `ParityError`, `CheckpointError`, `BundleError`.
    """
    vocabulary = _vocabulary(extras, checkpoint)
    related, stuff = _related(extras, checkpoint), _stuff(extras, checkpoint)
    provenance = _provenance(extras, checkpoint)
    with written_whole(target) as work:
        photos = photo_inputs(options.images, options.size)
        encoder = load_text_encoder(model.config.text, extras.get("text_encoder"), str(checkpoint))
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
                "checkpoint_sha256": sha256(checkpoint),
                "checkpoint": provenance,
                "weights": options.weights,
                "text_precision": options.text_precision,
                "torch": torch.__version__,
                "onnx": onnx.__version__,
            },
        )
        # The runtime opens what is written so far, so that it is the files that are used and compared.
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        tell("encoding the training vocabulary")
        (work / VECTORS).write_bytes(_name_vectors(Bundle.open(work), model))
        manifest = dataclasses.replace(manifest, digests={**manifest.digests, VECTORS: sha256(work / VECTORS)})
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        parity = measure(model, encoder, Bundle.open(work), options, photos, tell)
        report(parity)
        parity.check()
        manifest = dataclasses.replace(manifest, parity=parity.to_dict())
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _name_vectors(bundle: Bundle, model: MaskModel) -> bytes:
    """Vectors of the training names by the bundle's own encoder: they compete as background from the first frame on.

    FC-CLIP tells the names it was trained with by their vectors, so its bundle brings the very ones it holds, in
    whatever precision the text encoder is stored.
    """
    names = list(dict.fromkeys(name for entry in bundle.manifest.training_vocabulary for name in entry))
    if isinstance(model, FCClip) and model.config.seen_names == len(names):
        return packed(names, model.seen_vectors.numpy())
    with tempfile.TemporaryDirectory() as nowhere:
        return packed(names, TextEncoder(bundle, cache_folder=Path(nowhere)).encode(names))


def export_segmenter(model: MaskModel, options: ExportOptions) -> onnx.ModelProto:
    """The segmenter's graph under the contract."""
    model.use_formulation(options.msda)
    dtype = torch.uint8 if options.max_classes <= 256 else torch.int32
    raw = options.task == "panoptic"
    graph = SegmenterGraph(model, options.masks, options.decoder_layers, dtype, raw).eval()
    # Sizes that differ from each other and from 1, so that the exporter takes no axis for another.
    example = (torch.zeros((1, *options.size, 3), dtype=torch.uint8), torch.ones(6, 4, model.config.text.dim))
    outputs = [spec.name for spec in _outputs(model, options)]
    ports = (Port("image"), Port("text_embeddings", ((0, "K"), (1, "S"))))
    model.query_decoder.resize_features = True
    try:
        with reading_bgr(graph):
            onnx_model = to_onnx(graph, example, ports, outputs)
    finally:
        model.query_decoder.resize_features = False  # torch goes on to compute the published way, for parity
    if options.weights == "fp16":
        halve(onnx_model)
    return onnx_model


def _graph_spec(model: MaskModel, options: ExportOptions) -> GraphSpec:
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


def _outputs(model: MaskModel, options: ExportOptions) -> tuple[TensorSpec, ...]:
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


def _vocabulary(extras: dict[str, Any], checkpoint: Path) -> tuple[tuple[str, ...], ...]:
    raw = extras.get("training_vocabulary", [])
    if not isinstance(raw, list | tuple) or not all(_is_names(names) and names for names in raw):
        raise CheckpointError(f"{checkpoint}: the training vocabulary is not a list of lists of names; train it again")
    return tuple(tuple(names) for names in raw)


def _related(extras: dict[str, Any], checkpoint: Path) -> dict[str, tuple[str, ...]]:
    raw = extras.get("related", {})
    if not isinstance(raw, dict) or not _is_names(list(raw)) or not all(map(_is_names, raw.values())):
        raise CheckpointError(f"{checkpoint}: the related words are not names with lists of words; train it again")
    return {name: tuple(words) for name, words in raw.items()}


def _stuff(extras: dict[str, Any], checkpoint: Path) -> tuple[str, ...]:
    raw = extras.get("stuff", [])
    if not _is_names(raw):
        raise CheckpointError(f"{checkpoint}: the classes that are stuff are not a list of names; train it again")
    return tuple(raw)


def _is_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


def _provenance(extras: dict[str, Any], checkpoint: Path) -> dict[str, Any]:
    """The checkpoint's own account of itself, with paths of the machine that trained it cut to their names."""

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
        raise CheckpointError(f"{checkpoint}: its provenance is not plain data ({error}); train it again") from error
    return result if isinstance(result, dict) else {"note": result}
