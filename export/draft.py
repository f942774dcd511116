"""The part of an export that is the same for every model: text encoder, tokenizer, manifest, parity, all or nothing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from ..bundle.bundle import MANIFEST, Bundle, sha256, written_whole
from ..bundle.errors import CheckpointError
from ..bundle.manifest import SEGMENTER, TEXT_ENCODER, TOKENIZER, VECTORS, GraphSpec, Manifest
from ..runtime.examples.region_spec import EXAMPLES, RegionSpec
from ..runtime.vocabulary.cache import packed
from ..runtime.vocabulary.text_encoder import TextEncoder
from ..segmenter.config import TextConfig
from ..segmenter.text.ascii_vocabulary import ascii_encoder
from ..segmenter.text.encoder import TorchTextEncoder, load_text_encoder
from .onnx_writer import OPSET, save
from .options import TextPrecision, TextVocabulary, Weights
from .parity import Parity, Tell
from .parity_photos import photo_inputs
from .text_encoder.graph import export_text, text_spec

Photos = list[npt.NDArray[np.uint8]]  # uint8 (1, H, W, 3) BGR each


class ExportedModel(Protocol):
    """A model in torch that can be written as a graph and compared with it."""

    def graph(self) -> onnx.ModelProto:
        """The segmenter's ONNX graph, with the inputs and outputs that the manifest states."""

    def regions(self, photos: Photos) -> RegionSpec | None:
        """Which values of the graph tell the vector of a region; None where none does."""

    def parity(self, encoder: TorchTextEncoder, bundle: Bundle, photos: Photos, tell: Tell) -> Parity:
        """The files of `bundle` compared with the model and its text encoder."""

    def name_vectors(self, names: list[str]) -> npt.NDArray[np.float32] | None:
        """Vectors (N, D) of the background names that the model holds itself; None: the text encoder gives them."""


@dataclass(frozen=True)
class BundleDraft:
    """Everything about a bundle that is known before its files are written."""

    origin: str  # of the weights, for messages
    digest: str  # sha256 of the weights
    preset: str  # name of the model
    text: TextConfig
    text_state: dict[str, Tensor] | None  # weights of the text encoder; None: a package or a download brings them
    graph: GraphSpec
    weights: Weights  # how the segmenter's weights are stored
    text_precision: TextPrecision  # how the text encoder's matrices are stored
    images: Path | None  # folder of photos for parity; None: those of scikit-image
    training_vocabulary: tuple[tuple[str, ...], ...] = ()
    background: tuple[tuple[str, ...], ...] = ()
    related: dict[str, tuple[str, ...]] = field(default_factory=dict)
    stuff: tuple[str, ...] = ()
    threshold: float | None = None
    text_vocabulary: TextVocabulary = "full"  # which tokens the text encoder knows
    provenance: dict[str, Any] = field(default_factory=dict)  # of the weights


def write_draft(
    target: Path, draft: BundleDraft, model: ExportedModel, tell: Tell, on_parity: Callable[[Parity], None]
) -> Manifest:
    """Write the bundle `target`; `on_parity` is given the comparison before it is judged.

    Nothing appears at `target` unless every comparison passes. Raises `ParityError`, `CheckpointError`, `BundleError`.
    """
    provenance = plain(draft.provenance, draft.origin)
    with written_whole(target) as work:
        height, width = (int(side) for side in draft.graph.inputs[0].shape[1:3])
        photos = photo_inputs(draft.images, (height, width))
        encoder = load_text_encoder(draft.text, draft.text_state, draft.origin)
        if draft.text_vocabulary == "ascii":
            encoder = ascii_encoder(encoder)
        tell("writing the text encoder")
        save(export_text(encoder, draft.text_precision), work / TEXT_ENCODER)
        (work / TOKENIZER).write_text(encoder.tokenizer.to_str(), encoding="utf-8")
        tell("writing the segmenter")
        save(model.graph(), work / SEGMENTER)
        files = [SEGMENTER, TEXT_ENCODER, TOKENIZER]
        if (regions := model.regions(photos)) is not None:
            (work / EXAMPLES).write_text(regions.to_json(), encoding="utf-8")
            files.append(EXAMPLES)
        manifest = Manifest(
            name=target.name.removesuffix(".ovs"),
            created_by=f"ovs-edge {importlib.metadata.version('ovs-edge')}",
            graph=draft.graph,
            text=text_spec(encoder),
            training_vocabulary=draft.training_vocabulary,
            opset=OPSET,
            precisions={"fp32": SEGMENTER},
            related=draft.related,
            stuff=draft.stuff,
            digests={name: sha256(work / name) for name in files},
            provenance={
                "preset": draft.preset,
                "checkpoint_sha256": draft.digest,
                "checkpoint": provenance,
                "weights": draft.weights,
                "text_precision": draft.text_precision,
                **({} if draft.text_vocabulary == "full" else {"text_vocabulary": draft.text_vocabulary}),
                "torch": torch.__version__,
                "onnx": onnx.__version__,
            },
            background=draft.background,
            threshold=draft.threshold,
        )
        # The runtime opens the files written so far: what is compared is what a device will read.
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        tell("encoding the background names")
        (work / VECTORS).write_bytes(_name_vectors(Bundle.open(work), model))
        manifest = dataclasses.replace(manifest, digests={**manifest.digests, VECTORS: sha256(work / VECTORS)})
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        parity = model.parity(encoder, Bundle.open(work), photos, tell)
        on_parity(parity)
        parity.check()
        manifest = dataclasses.replace(manifest, parity=parity.to_dict())
        (work / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _name_vectors(bundle: Bundle, model: ExportedModel) -> bytes:
    """Vectors of the background names, as an `.npz`: they are ready at the first frame.

    They come from the bundle's own text encoder. A model that recognises its training names by their vectors
    (FC-CLIP) holds them itself: its bundle has the checkpoint's, whatever precision the text encoder is stored in.
    """
    names = list(dict.fromkeys(name for entry in bundle.manifest.background_classes for name in entry))
    held = model.name_vectors(names)
    if held is not None:
        return packed(names, held)
    with tempfile.TemporaryDirectory() as cache:
        return packed(names, TextEncoder(bundle, cache_folder=Path(cache)).encode(names))


def plain(provenance: Any, origin: str) -> dict[str, Any]:
    """A checkpoint's provenance; absolute paths of the training machine are cut to their last part."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): cut(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [cut(item) for item in value]
        return Path(value).name if isinstance(value, str) and value.startswith("/") else value

    try:
        result = cut(provenance)
        json.dumps(result)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{origin}: its provenance is not plain data ({error}); train it again") from error
    return result if isinstance(result, dict) else {"note": result}
