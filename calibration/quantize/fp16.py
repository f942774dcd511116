"""Converts a graph to FP16: strongly typed engines compute in the types that the file states.

Weights and activations become FP16, except where that loses accuracy: the normalisation of pixels, sampling locations
and the sampling itself, norms, softmax and the cosine. Inputs and outputs keep their types.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from ..graph.constant_folding import module_of

_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_LARGEST = float(np.finfo(np.float16).max)

# Sums of squares, exponentials and angles: large and small values in one reduction.
_FP32_OPERATORS = frozenset(
    {
        "LayerNormalization", "Softmax", "GridSample", "Floor", "ReduceL2", "ReduceMean",
        "Exp", "Log", "Pow", "Sqrt", "Sin", "Cos",
    }
)  # fmt: skip
_SHOWN = ".exact"  # ends the name of an FP16 tensor's FP32 copy
_SCORES = frozenset({"scorer.merge", "scorer.refine"})  # modules of a plain CLIP between cosines and labels
_SAMPLING = frozenset({"GridSample", "Floor"})  # the two formulations of deformable attention
# Inputs that the ONNX standard wants in FP32, whatever the type of the first input.
_OWN_TYPE = {"Resize": (1, 2)}


def convert_to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` (constants folded, FP32) in FP16, with a Cast on every edge between the two types."""
    typed = shape_inference.infer_shapes(model)
    graph = typed.graph
    wide = fp32_nodes(graph.node)
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    types.update({name: tensor.data_type for name, tensor in weights.items()})
    outputs = {value.name for value in graph.output}
    now = dict(types)  # present type of each tensor
    nodes: list[NodeProto] = []
    made: dict[tuple[str, int], str] = {}  # (tensor, type) -> its copy in that type

    def as_type(name: str, wanted: int) -> str:
        if types.get(name) != _FLOAT or now[name] == wanted:
            return name
        if (name, wanted) not in made:
            made[name, wanted] = f"{name}.{'fp16' if wanted == _HALF else 'fp32'}"
            if name in weights:
                graph.initializer.append(_half(weights[name], made[name, wanted]))
            else:
                nodes.append(_cast(name, made[name, wanted], wanted))
        return made[name, wanted]

    for node in graph.node:
        kind = _FLOAT if node.name in wide else _HALF
        own = _OWN_TYPE.get(node.op_type, ())
        for place, name in enumerate(node.input):
            node.input[place] = as_type(name, _FLOAT if place in own else kind)
        if kind == _HALF:
            _retype(node)
        nodes.append(node)
        for place, name in enumerate(node.output):
            if types.get(name) != _FLOAT:
                continue
            now[name] = kind
            if name in outputs and kind == _HALF:
                node.output[place] = made[name, _HALF] = f"{name}.fp16"
                nodes.append(_cast(node.output[place], name, _FLOAT))
                now[name] = _FLOAT
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    _drop_unread(graph)
    return shape_inference.infer_shapes(typed, check_type=True, strict_mode=True)


def fp32_nodes(nodes: Iterable[NodeProto]) -> set[str]:
    """Names of the nodes that stay FP32: by operator, and all nodes of modules that sample, or compare with names.

    A plain CLIP's scores are scaled before they are averaged over windows, so its means stay FP32, too.
    """
    nodes = list(nodes)
    sampling = {module_of(node) for node in nodes if node.op_type in _SAMPLING}
    norms = {module_of(node) for node in nodes if node.op_type == "ReduceL2"}
    return {
        node.name for node in nodes if node.op_type in _FP32_OPERATORS or module_of(node) in sampling | norms | _SCORES
    }


def emulate_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an FP16 graph for the CPU: it computes in FP32 and rounds each FP16 tensor, as a GPU would.

    ONNX Runtime itself fuses operators without an FP16 kernel on a CPU and drops the roundings between them: the graph
    would look more accurate than it is.
    """
    typed = shape_inference.infer_shapes(model)
    graph = typed.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    types.update({tensor.name: tensor.data_type for tensor in graph.initializer})
    half = [name for name, kind in types.items() if kind == _HALF]
    computed = {name for node in graph.node for name in node.output}
    nodes = [_cast(name, f"{name}{_SHOWN}", _FLOAT) for name in half if name not in computed]
    for node in graph.node:
        inside = node.op_type == "Cast"  # rounds by itself
        for place, name in enumerate(node.input):
            if types.get(name) == _HALF and not inside:
                node.input[place] = f"{name}{_SHOWN}"
        nodes.append(node)
        for place, name in enumerate(node.output):
            if types.get(name) != _HALF:
                continue
            if not inside:
                node.output[place] = f"{name}.before"
                nodes.append(_cast(f"{name}.before", name, _HALF))
            nodes.append(_cast(name, f"{name}{_SHOWN}", _FLOAT))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return typed


def fp16_tensors(model: onnx.ModelProto) -> list[str]:
    """Tensors of a graph of `emulate_fp16` that hold, in FP32, the values of its FP16 tensors."""
    weights = {tensor.name for tensor in model.graph.initializer}
    casts = (node for node in model.graph.node if node.op_type == "Cast" and node.output[0].endswith(_SHOWN))
    return [node.output[0] for node in casts if node.input[0] not in weights]


def _retype(node: NodeProto) -> None:
    """Change FP32 to FP16 in the attributes of a node."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FLOAT:
            attribute.i = _HALF
        elif node.op_type == "ConstantOfShape" and attribute.t.data_type == _FLOAT:
            attribute.t.CopyFrom(_half(attribute.t, attribute.t.name))


def _half(tensor: TensorProto, name: str) -> TensorProto:
    """The nearest finite FP16 values; a value that is not zero does not become zero."""
    value = numpy_helper.to_array(tensor)
    half = np.clip(value, -_LARGEST, _LARGEST).astype(np.float16)
    least = np.copysign(np.finfo(np.float16).smallest_subnormal, value).astype(np.float16)
    return numpy_helper.from_array(np.where((half == 0) & (value != 0), least, half), name)


def _cast(source: str, target: str, kind: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], f"{target}/Cast", to=kind)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove initializers that no node reads."""
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
