"""The text encoder as a graph: token ids in, text vectors out."""

from __future__ import annotations

import onnx

from ...bundle.manifest import TensorSpec, TextSpec
from ...segmenter.text.encoder import TorchTextEncoder
from ..onnx_writer import Port, to_onnx
from ..options import TextPrecision
from ..weights import store_int8

OUTPUT = "text_embeddings"


def export_text(encoder: TorchTextEncoder, precision: TextPrecision) -> onnx.ModelProto:
    """The graph of `encoder`, for any number of texts."""
    example = encoder.tokenize(["a photo of a bicycle", "sky", "traffic light"])
    ports = [
        Port(spec.name, tuple((axis, symbol) for axis, symbol in enumerate(spec.shape) if isinstance(symbol, str)))
        for spec in _inputs(encoder)
    ]
    model = to_onnx(encoder.model, example, ports, [OUTPUT])
    if precision == "int8":
        store_int8(model)
    return model


def text_spec(encoder: TorchTextEncoder) -> TextSpec:
    """How the manifest describes `encoder`."""
    config = encoder.config
    return TextSpec(
        encoder=config.kind,
        dim=config.dim,
        context_length=config.context_length,
        cleaning=encoder.cleaning,
        templates=config.templates,
        inputs=_inputs(encoder),
        output=OUTPUT,
    )


def _inputs(encoder: TorchTextEncoder) -> tuple[TensorSpec, ...]:
    # Tokenizers pad to the longest of a batch, so the length is free.
    return tuple(TensorSpec(name, "int64", ("N", "L")) for name in encoder.inputs)
