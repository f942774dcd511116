"""Smaller files: weights stored in FP16 or INT8 and converted to FP32 by operators that engines fold at load time.

ONNX Runtime and TensorRT compute whatever depends on weights alone when they load the file. So these graphs run as
fast as FP32 ones, on any version: they need Cast and Mul only.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

_LEAST = 1024  # elements; below, two more nodes cost more than the bytes saved


def store_fp16(model: onnx.ModelProto) -> int:
    """Store every FP32 weight that FP16 holds exactly in FP16; returns the bytes saved.

    The graph computes the same results, bit by bit: a weight that FP16 would change stays FP32.
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


def store_int8(model: onnx.ModelProto) -> int:
    """Store every matrix that a MatMul or a Gather of rows reads in INT8; returns the number of matrices.

    Symmetric, one scale per output channel, or per row of an embedding table (Jacob et al. 2018). Activations stay
    FP32, which keeps the mean cosine of sentence vectors above 0.999. Rows of an embedding table are converted after
    the Gather, so that the table stays small in memory, too.
    """
    graph = model.graph
    users: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
    conversions: list[NodeProto] = []
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
                _gather_rows(graph, node, name)
        else:
            conversions += _dequantise(f"{name}.int8", f"{name}.scale", name)
        count += 1
    _prepend(graph, conversions)
    return count


def _dequantise(small: str, scale: str, result: str) -> list[NodeProto]:
    """Nodes for result = float(small) * scale."""
    return [
        helper.make_node("Cast", [small], [f"{result}.wide"], f"{result}/Cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{result}.wide", scale], [result], f"{result}/Mul"),
    ]


def _gather_rows(graph: onnx.GraphProto, gather: NodeProto, table: str) -> None:
    """Replace the Gather of FP32 rows by Gathers of INT8 rows and of their scales."""
    result, ids = gather.output[0], gather.input[1]
    rows, scales = f"{result}.rows", f"{result}.scales"
    at = next(index for index, node in enumerate(graph.node) if node.output[0] == result)
    nodes = [
        helper.make_node("Gather", [f"{table}.int8", ids], [rows], gather.name, axis=0),
        helper.make_node("Gather", [f"{table}.scale", ids], [scales], f"{gather.name}_scale", axis=0),
        *_dequantise(rows, scales, result),
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
