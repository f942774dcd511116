"""Layers of a graph that may be quantised, and their groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper, shape_inference

from ..quantize.fp16 import fp32_nodes
from .constant_folding import module_of

# Eight bits are too few for positions and attention weights.
_NEVER = ("sampling_offsets", "attention_weights")
_FFN = ("linear1", "linear2", "pwconv1", "pwconv2", "ffn", "mlp")
_PROJECTION = ("attn", "proj")
_EMBEDDINGS = ("embed", "mask_features")  # their output is compared with names or queries directly
_LARGE = 2**10  # elements of a weight; below, quantising the input costs more than the product


@dataclass(frozen=True)
class QuantizableLayer:
    """A convolution or a matrix product whose weight is a constant."""

    node: str  # name in the graph: torch module and operator
    group: str  # layers are quantised or left out by groups
    source: str  # input tensor
    target: str  # output tensor
    weight: str  # initializer
    axis: int  # of the weight's output channels
    work: int  # multiply-adds of one frame, 0 where shapes are not known


def find_layers(model: onnx.ModelProto) -> list[QuantizableLayer]:
    """Layers of the graph that may be quantised, in its order; constants must be folded.

    Never quantised: sampling offsets, attention weights, products of two activations (attention, masks), norms, cosine.
    """
    typed = shape_inference.infer_shapes(model)
    weights = {tensor.name: tensor for tensor in typed.graph.initializer}
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in typed.graph.value_info
    }
    fp32 = fp32_nodes(typed.graph.node)
    found = []
    for node in typed.graph.node:
        if node.op_type not in ("Conv", "MatMul") or node.name in fp32 or node.input[1] not in weights:
            continue
        module = module_of(node)
        weight = weights[node.input[1]]
        small = node.op_type == "MatMul" and int(np.prod(weight.dims)) < _LARGE
        if small or any(part in module for part in _NEVER):
            continue
        axis = 0 if node.op_type == "Conv" else len(weight.dims) - 1
        positions = int(np.prod(shapes.get(node.output[0], [0]))) // weight.dims[axis]
        found.append(
            QuantizableLayer(
                node.name,
                group_of(module, node.op_type),
                node.input[0],
                node.output[0],
                node.input[1],
                axis,
                positions * int(np.prod(weight.dims)),
            )
        )
    return found


def group_of(module: str, operator: str) -> str:
    """Group of a module's layer: `backbone.stages.2`, `pixel_decoder.convolutions`, `vision.qkv`, `heads`, …"""
    parts = module.removeprefix("model.").split(".")
    if "vision" in parts:
        return _vision_group(parts[parts.index("vision") + 1 :])
    if parts[0] == "backbone":
        length = 3 if len(parts) > 2 and parts[1] == "stages" else 2
        return ".".join(parts[:length])
    if parts[0] in ("pixel_decoder", "query_decoder") and "mask_embed" not in parts:
        if parts[-1] in _FFN:
            return f"{parts[0]}.ffn"
        if parts[-1] in _EMBEDDINGS:
            return f"{parts[0]}.embeddings"
        if operator == "Conv":
            return f"{parts[0]}.convolutions"
        if any(sign in part for part in parts for sign in _PROJECTION):
            return f"{parts[0]}.projections"
    return "heads"


def _vision_group(parts: Sequence[str]) -> str:
    """Group of a vision transformer's layer: blocks are alike, so each kind of layer is one group over all blocks."""
    if "mlp" in parts:
        return "vision.mlp"
    if "out_proj" in parts:
        return "vision.out_projection"
    return "vision.qkv" if "attn" in parts else "vision.patches"


def group_names(layers: Sequence[QuantizableLayer]) -> list[str]:
    """Names of the groups, in the order of the graph."""
    return list(dict.fromkeys(layer.group for layer in layers))


def readers(nodes: Sequence[NodeProto]) -> dict[str, list[NodeProto]]:
    """Tensor -> the nodes that read it."""
    found: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.input):
            found.setdefault(name, []).append(node)
    return found


def weight_values(model: onnx.ModelProto, layers: Sequence[QuantizableLayer]) -> dict[str, np.ndarray]:
    """Values of the layers' weights by name."""
    wanted = {layer.weight for layer in layers}
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in wanted}
