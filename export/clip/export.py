"""One call from plain CLIP weights to a bundle folder: what `ovs-export --clip` runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch

from ...bundle.bundle import MANIFEST, Bundle
from ...bundle.files import refuse_occupied
from ...bundle.manifest import ClipDenseSpec, GraphSpec, Manifest, TensorSpec
from ...runtime.examples.region_spec import RegionSpec
from ...segmenter.clip_dense.model import ClipDense
from ...segmenter.clip_dense.weights import ClipSource, read_clip
from ...segmenter.text.encoder import TorchTextEncoder
from ..draft import BundleDraft, Photos, write_draft
from ..onnx_writer import Port, to_onnx
from ..parity import Parity, Tell
from ..regions.values import clip_region_spec, hide_values, traced_names
from ..weights import store_fp16
from .graph import ClipDenseGraph, clip_bgr_input
from .options import ClipExportRequest
from .parity import measure_clip


def export_clip_bundle(
    source: str,
    output: str | Path,
    request: ClipExportRequest | None = None,
    *,
    tell: Callable[[str], None] = lambda step: None,
    note: Callable[[str], None] = lambda text: None,
    on_parity: Callable[[Parity], None] = lambda parity: None,
) -> Manifest:
    """Export the CLIP `source` into the bundle folder `output` and return its manifest.

    `source` is MODEL/WEIGHTS of open_clip, MODEL:FILE or FILE, see `segmenter.clip_dense.weights`; `note` is told what
    had to be assumed. Nothing appears at `output` unless every comparison with torch passes. Raises `CheckpointError`,
    `UsageError`, `ParityError`, `BundleError`.
    """
    parsed = ClipSource.parse(source)
    refuse_occupied(Path(output), MANIFEST, "bundle")  # before a download
    tell("reading the weights")
    weights = read_clip(parsed)
    request = (request or ClipExportRequest()).decided(weights.vision.patch)
    if weights.assumed is not None:
        note(weights.assumed)
    model = weights.model(
        recipe=request.recipe,
        windows=request.windows,
        refinement=request.refinement,
        temperature=request.temperature,
    )
    draft = BundleDraft(
        origin=weights.origin,
        digest=weights.digest(),
        preset=weights.name,
        text=weights.text,
        text_state=weights.text_state,
        graph=graph_spec(model, request),
        weights=request.weights,
        text_precision=request.text_precision,
        images=request.images,
        background=request.background,
        threshold=request.threshold,
        provenance={
            "checkpoint": str(parsed) if parsed.file is None else parsed.file.name,
            "layout": "CLIP",
            "activation": "quick_gelu" if weights.vision.quick_gelu else "gelu",
        },
    )
    del weights  # the model and the draft hold what is needed of them
    return write_draft(Path(output), draft, _ExportedClip(model, request), tell, on_parity)


@dataclass(frozen=True)
class _ExportedClip:
    """See `ExportedModel`."""

    model: ClipDense
    request: ClipExportRequest

    def graph(self) -> onnx.ModelProto:
        return clip_onnx(self.model, self.request)

    def regions(self, photos: Photos) -> RegionSpec | None:
        assert self.request.size is not None
        return clip_region_spec(self.model, self.request.size)

    def parity(self, encoder: TorchTextEncoder, bundle: Bundle, photos: Photos, tell: Tell) -> Parity:
        return measure_clip(self.model, encoder, bundle, photos, tell)

    def name_vectors(self, names: list[str]) -> npt.NDArray[np.float32] | None:
        return None


def clip_onnx(model: ClipDense, request: ClipExportRequest) -> onnx.ModelProto:
    """The segmenter's ONNX graph, with the inputs and outputs that the manifest states."""
    request = request.decided(model.config.vision.patch)
    assert request.size is not None
    dtype = torch.uint8 if request.max_classes <= 256 else torch.int32
    graph = ClipDenseGraph(model, request.size, dtype, regions=True).eval()
    # Sizes that differ from each other and from 1, so that the exporter cannot mix up two axes.
    example = (torch.zeros((1, *request.size, 3), dtype=torch.uint8), torch.ones(6, 4, model.config.text.dim))
    ports = (Port("image"), Port("text_embeddings", ((0, "K"), (1, "S"))))
    regions, outputs = clip_region_spec(model, request.size), ["labels", "confidence"]
    with clip_bgr_input(graph):
        onnx_model = to_onnx(graph, example, ports, traced_names(regions, outputs))
    hide_values(onnx_model, len(outputs), regions)
    if request.weights == "fp16":
        store_fp16(onnx_model)
    return onnx_model


def graph_spec(model: ClipDense, request: ClipExportRequest) -> GraphSpec:
    """How the manifest describes the graph."""
    assert request.size is not None
    height, width = request.size
    config = model.config
    return GraphSpec(
        inputs=(
            TensorSpec("image", "uint8", (1, height, width, 3)),
            TensorSpec("text_embeddings", "float32", ("K", "S", config.text.dim)),
        ),
        outputs=(
            TensorSpec("labels", "uint8" if request.max_classes <= 256 else "int32", (1, height, width)),
            TensorSpec("confidence", "float32", (1, height, width)),
        ),
        max_classes=request.max_classes,
        masks="exact",
        msda="gridsample",
        decoder_layers=0,
        stride=1,
        clip_dense=ClipDenseSpec(config.recipe.value, config.windows, config.refinement.value, config.temperature),
    )
