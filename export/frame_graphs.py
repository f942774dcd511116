"""Makes the ONNX graphs of `runtime/device_frames`, which resize frames and label maps on a device.

    python -m ovs_edge.export.frame_graphs runtime/device_frames

They belong to no model: sizes are free, and which pixels are summed comes in as inputs (`runtime/device_frames/
resampling.py`). The runtime has no `onnx`, so the files are part of the package.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

_OPSET, _IR = 17, 8

Shape = Sequence[int | str]


def letterbox_graph() -> onnx.ModelProto:
    """A frame (H, W, 3) uint8 to an input (1, h, w, 3) uint8; `InputPlan` has the other inputs.

    Rows first: their bytes lie together, and what is left is small. All rows of the result are one batched product.
    """
    nodes = [
        _node("Reshape", "frame,flat_shape", "flat"),  # (H, 3W)
        _node("Gather", "flat,rows", "taps", axis=0),  # (h, R, 3W)
        _node("Cast", "taps", "row_values", to=TensorProto.FLOAT),
        _node("Unsqueeze", "row_weights,one", "row_factors"),  # (h, 1, R)
        _node("MatMul", "row_factors,row_values", "summed"),  # (h, 1, 3W)
        _node("Reshape", "summed,pixel_shape", "lines"),  # (h, W, 3)
        _node("Gather", "lines,columns", "column_values", axis=1),  # (h, w, C, 3)
        _node("Unsqueeze", "column_weights,two", "column_factors"),  # (w, C, 1)
        _node("Mul", "column_values,column_factors", "parts"),
        _node("ReduceSum", "parts,two", "scaled", keepdims=0),  # (h, w, 3)
        _node("Add", "scaled,padding", "padded"),
        _node("Add", "padded,rounding", "raised"),
        _node("Round", "raised", "whole"),
        _node("Cast", "whole", "bytes", to=TensorProto.UINT8),
        _node("Unsqueeze", "bytes,zero", "image"),
    ]
    constants = [
        helper.make_tensor("flat_shape", TensorProto.INT64, [2], [0, -1]),
        helper.make_tensor("pixel_shape", TensorProto.INT64, [3], [0, -1, 3]),
        *(_integer(name, value) for name, value in (("zero", 0), ("one", 1), ("two", 2))),
    ]
    inputs = [
        _value("frame", TensorProto.UINT8, ["H", "W", 3]),
        _value("rows", TensorProto.INT64, ["h", "R"]),
        _value("row_weights", TensorProto.FLOAT, ["h", "R"]),
        _value("columns", TensorProto.INT64, ["w", "C"]),
        _value("column_weights", TensorProto.FLOAT, ["w", "C"]),
        _value("padding", TensorProto.FLOAT, ["h", "w", 3]),
        _value("rounding", TensorProto.FLOAT, []),
    ]
    return _model("letterbox", nodes, inputs, [_value("image", TensorProto.UINT8, [1, "h", "w", 3])], constants)


def label_map_graph(dtype: str) -> onnx.ModelProto:
    """Labels (h, w) and confidence (h, w) float32 to the same of the frame's size, (H, W).

    `dtype` "uint8" has 255 for a pixel without label, "int32" -1. A label whose confidence is below its entry in
    `thresholds`, (N,) float32, is taken away. The last entry is that of -1; the table for uint8 has 256.
    """
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.INT32
    nodes = [
        _node("Gather", "labels,nearest_rows", "label_lines", axis=0),
        _node("Gather", "label_lines,nearest_columns", "nearest", axis=1),
        *_blend("confidence", "row", 0, "confidence_lines"),
        *_blend("confidence_lines", "column", 1, "frame_confidence"),
        _node("Cast", "nearest", "places", to=TensorProto.INT32),
        _node("Gather", "thresholds,places", "least", axis=0),
        _node("Less", "frame_confidence,least", "unsure"),
        _node("Where", "unsure,nothing,nearest", "frame_labels"),
    ]
    inputs = [
        _value("labels", kind, ["h", "w"]),
        _value("confidence", TensorProto.FLOAT, ["h", "w"]),
        _value("nearest_rows", TensorProto.INT64, ["H"]),
        _value("nearest_columns", TensorProto.INT64, ["W"]),
        *(_value(f"row_{end}", TensorProto.INT64, ["H"]) for end in ("first", "second")),
        *(_value(f"row_{end}_weight", TensorProto.FLOAT, ["H", 1]) for end in ("first", "second")),
        *(_value(f"column_{end}", TensorProto.INT64, ["W"]) for end in ("first", "second")),
        *(_value(f"column_{end}_weight", TensorProto.FLOAT, ["W"]) for end in ("first", "second")),
        _value("thresholds", TensorProto.FLOAT, ["N"]),
    ]
    outputs = [_value("frame_labels", kind, ["H", "W"]), _value("frame_confidence", TensorProto.FLOAT, ["H", "W"])]
    nothing = helper.make_tensor("nothing", kind, [], [255 if dtype == "uint8" else -1])
    return _model(f"label_map_{dtype}", nodes, inputs, outputs, [nothing])


def write_frame_graphs(folder: Path) -> tuple[Path, ...]:
    """Write all graphs into `folder`."""
    graphs = [letterbox_graph(), *map(label_map_graph, ("uint8", "int32"))]
    paths = tuple(folder / f"{graph.graph.name}.onnx" for graph in graphs)
    for graph, path in zip(graphs, paths, strict=True):
        path.write_bytes(graph.SerializeToString(deterministic=True))
    return paths


def _blend(source: str, axis: str, number: int, result: str) -> list[onnx.NodeProto]:
    """The weighted sum of two rows or columns of `source`."""
    return [
        *(_node("Gather", f"{source},{axis}_{end}", f"{axis}_{end}_values", axis=number) for end in _ENDS),
        *(_node("Mul", f"{axis}_{end}_values,{axis}_{end}_weight", f"{axis}_{end}_part") for end in _ENDS),
        _node("Add", f"{axis}_first_part,{axis}_second_part", result),
    ]


_ENDS = ("first", "second")


def _node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(","), [output], name=output, **attributes)


def _integer(name: str, value: int) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [1], [value])


def _value(name: str, kind: int, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _model(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    model.producer_name = "ovs-edge"
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    write_frame_graphs(Path(sys.argv[1]))
