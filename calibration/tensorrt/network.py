"""Reads the layers of a parsed TensorRT network and checks their types before anything is built.

Networks are strongly typed: the engine computes in the types that are read here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto, shape_inference

from ...bundle.errors import PlanError
from ...runtime.engines.tensorrt_api import TensorRT, kind, type_name
from ...runtime.engines.tensorrt_protocols import INetworkDefinition

_FLOATS = {"float32", "float16", "bfloat16", "fp8", "int8"}  # types that a computation may be rounded to
_STATED = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.INT8: "int8"}
_PRODUCTS = {"CONVOLUTION", "MATRIX_MULTIPLY", "DECONVOLUTION"}


@dataclass(frozen=True)
class EngineLayer:
    """One layer of the network."""

    name: str  # the ONNX node's, where it comes from one
    kind: str  # CONVOLUTION, GRID_SAMPLE, …
    types: tuple[str, ...]  # of its outputs
    tensors: tuple[str, ...]  # names of its outputs
    quantised: bool  # its first input is dequantised from INT8: it computes in INT8
    linear: bool | None  # whether a GridSample interpolates; None for other layers


def read_layers(trt: TensorRT, network: INetworkDefinition) -> tuple[EngineLayer, ...]:
    """Every layer, in the network's order."""
    layers: list[EngineLayer] = []
    dequantised: set[str] = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        named = kind(layer)
        outputs = [layer.get_output(place) for place in range(layer.num_outputs)]
        tensors = tuple(str(output.name) for output in outputs)
        first = layer.get_input(0) if layer.num_inputs else None
        if named == "DEQUANTIZE":
            dequantised.update(tensors)
        layers.append(
            EngineLayer(
                str(layer.name),
                named,
                tuple(type_name(output.dtype) for output in outputs),
                tensors,
                named in _PRODUCTS and first is not None and first.name in dequantised,
                trt.samples_linearly(layer),
            )
        )
    return tuple(layers)


def stated_types(path: Path) -> dict[str, str]:
    """Type of every tensor of the ONNX file that is FP32, FP16 or INT8, by name."""
    graph = shape_inference.infer_shapes(onnx.load(str(path))).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}  # weights may be stored in FP16
    return {name: _STATED[found] for name, found in types.items() if found in _STATED}


def check_layers(layers: Sequence[EngineLayer], stated: Mapping[str, str]) -> None:
    """Raise `PlanError` unless the network computes in the types of the file and GridSamples are bilinear.

    A tensor with the name of one in the file must have its type; one that the parser made must have a type that the
    file uses.
    """
    seen = 0
    for layer in layers:
        if layer.linear is False:
            raise PlanError(f"TensorRT takes {layer.name} for nearest sampling; build with --msda gather")
        for name, found in zip(layer.tensors, layer.types, strict=True):
            if found not in _FLOATS:
                continue
            expected = {stated[name]} if name in stated else set(stated.values())
            seen += name in stated
            if found not in expected:
                raise PlanError(
                    f"TensorRT computes {layer.name} in {found}, the file says {' or '.join(sorted(expected))}; "
                    "use another precision, or export the bundle again"
                )
    if stated and not seen:
        raise PlanError("TensorRT's network has none of the file's tensors; report this with both versions")


def computes_in(layer: EngineLayer) -> str:
    """Type of a layer's first output; `int8` for a product of a quantised input."""
    return "int8" if layer.quantised else layer.types[0] if layer.types else "none"


def summary(layers: Sequence[EngineLayer]) -> dict[str, dict[str, int]]:
    """kind -> type -> number of layers."""
    counts: dict[str, Counter[str]] = {}
    for layer in layers:
        counts.setdefault(layer.kind, Counter())[computes_in(layer)] += 1
    return {name: dict(sorted(counts[name].items())) for name in sorted(counts)}
