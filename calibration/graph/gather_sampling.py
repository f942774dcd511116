"""Replaces every GridSample of a graph by Gather and arithmetic: the second formulation of deformable attention.

Some versions of TensorRT miscompile GridSample. Here the four neighbours of each sampling location are gathered as
rows of channels and interpolated: the same result, from operators that every compiler supports.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from ...bundle.errors import PlanError
from .rewriting import attributes

_NUMPY = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


def replace_grid_samples(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` without GridSample. Raises `PlanError` for a sampling that is not this model's kind."""
    # Strict: the sizes of the sampled maps are needed.
    typed = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    values = {value.name: value.type.tensor_type for value in (*typed.graph.value_info, *typed.graph.input)}
    result = onnx.ModelProto()
    result.CopyFrom(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "GridSample":
            nodes.append(node)
            continue
        try:
            maps, grid = values[node.input[0]], values[node.input[1]]
        except KeyError as error:
            raise PlanError(f"{node.name} samples {error}, whose size is unknown; export the bundle again") from error
        sampling = _GatherSampling(node, maps, grid)
        nodes += sampling.nodes
        result.graph.initializer.extend(sampling.constants)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    onnx.checker.check_model(result)
    return result


class _GatherSampling:
    """The nodes that replace one GridSample: maps (N, C, H, W), grid (N, h, w, 2) in -1..1 -> (N, C, h, w)."""

    def __init__(self, node: NodeProto, maps: Any, grid: Any) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = node.name
        check_sampling(node)
        count, channels, height, width = _sizes(maps, node)
        _, rows, columns, _ = _sizes(grid, node)
        self._type = grid.elem_type
        places = rows * columns
        x, y = (
            self._coordinate(node.input[1], axis, side, (count, places)) for axis, side in ((0, width), (1, height))
        )
        left, top = self._op("Floor", x), self._op("Floor", y)
        table = self._op("Transpose", self._as(node.input[0], maps.elem_type, self._type), perm=[0, 2, 3, 1])
        table = self._reshape(table, (count * height * width, channels))
        first = self._constant(np.arange(count, dtype=np.int32)[:, None] * (height * width))
        total = None
        for down in (0, 1):
            for right in (0, 1):
                column, near_x, inside_x = self._neighbour(x, left, right, width)
                row, near_y, inside_y = self._neighbour(y, top, down, height)
                inside = self._as(self._op("And", inside_x, inside_y), TensorProto.BOOL, self._type)
                share = self._op("Mul", self._op("Mul", near_x, near_y), inside)
                index = self._op("Add", self._op("Mul", row, self._float(width)), column)
                index = self._op("Add", self._as(index, self._type, TensorProto.INT32), first)
                fetched = self._op("Gather", table, index, axis=0)  # (N, places, C)
                part = self._op("Mul", fetched, self._reshape(share, (count, places, 1)))
                total = part if total is None else self._op("Add", total, part)
        assert total is not None
        mixed = self._reshape(self._op("Transpose", total, perm=[0, 2, 1]), (count, channels, rows, columns))
        self._as(mixed, self._type, maps.elem_type, node.output[0])

    def _coordinate(self, grid: str, axis: int, side: int, shape: tuple[int, int]) -> str:
        """Locations along one axis in pixels, -0.5 at the map's edge, shaped (N, h * w)."""
        one = self._op("Gather", grid, self._constant(np.array(axis, np.int64)), axis=3)
        scaled = self._op("Mul", self._op("Add", one, self._float(1)), self._float(side / 2))
        return self._reshape(self._op("Sub", scaled, self._float(0.5)), shape)

    def _neighbour(self, place: str, low: str, step: int, side: int) -> tuple[str, str, str]:
        """Index of the neighbour clipped to the map, its weight, and whether it lies inside the map."""
        at = self._op("Add", low, self._float(1)) if step else low
        held = self._op("Clip", at, self._float(0), self._float(side - 1))
        far = self._op("Abs", self._op("Sub", place, at))
        return held, self._op("Sub", self._float(1), far), self._op("Equal", held, at)

    def _op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = f"{self._prefix}/{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output or name], name, **attributes))
        return output or name

    def _as(self, name: str, now: int, wanted: int, output: str | None = None) -> str:
        if now == wanted and output is None:
            return name
        if now == wanted:
            return self._op("Identity", name, output=output)
        return self._op("Cast", name, output=output, to=wanted)

    def _reshape(self, name: str, shape: tuple[int, ...]) -> str:
        return self._op("Reshape", name, self._constant(np.array(shape, np.int64)))

    def _float(self, value: float) -> str:
        return self._constant(np.array(value, _NUMPY[self._type]))

    def _constant(self, value: Any) -> str:
        name = f"{self._prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name


def check_sampling(node: NodeProto) -> None:
    """Raise `PlanError` unless a GridSample is bilinear, with zero padding and unaligned corners."""
    settings = attributes(node)
    kind = (
        settings.get("mode", b"bilinear"),
        settings.get("padding_mode", b"zeros"),
        settings.get("align_corners", 0),
    )
    if kind not in ((b"bilinear", b"zeros", 0), (b"linear", b"zeros", 0)):
        raise PlanError(f"{node.name} samples by {kind}, expected bilinear, zeros, 0; export the bundle again")


def _sizes(kind: Any, node: NodeProto) -> list[int]:
    sizes = [axis.dim_value for axis in kind.shape.dim]
    if len(sizes) != 4 or min(sizes) < 1:
        raise PlanError(f"{node.name} samples tensors of free sizes, expected four fixed; export the bundle again")
    return sizes
