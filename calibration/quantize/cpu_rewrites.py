"""Rewrites the graph of `int8-cpu` so that ONNX Runtime takes its fast CPU kernels.

INT8 makes the products three times as fast; the operators between them then take most of a frame. The rewrites compute
the same, except for the order of sums and for downsampled INT8 maps, which are rounded to the map's own steps. Some use
ONNX Runtime's own operators, so the FP32 file, which every engine reads, does not have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper

from ..graph.rewriting import RUNTIME, EditableGraph, attributes

REWRITES_VERSION = 3  # to be raised with every change below: cached measurements of other rewrites do not apply
_MANY_ROWS = 128  # rows of a norm from which the other kernel is faster


def rewrite_for_cpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with fewer tensors to quantise; value ranges are found on it."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = EditableGraph(result)
    _add_constants_after_products(graph)
    graph.apply()
    return result


def rewrite_quantised(model: onnx.ModelProto) -> None:
    """Rewrite the quantised graph in place."""
    graph = EditableGraph(model)
    for rewrite in (
        _fuse_integer_products,
        _drop_saturated_relus,
        _layer_norms_as_instance_norms,
        _downsample_by_convolution,
        _upsample_by_products,
        _rewrite_stem,
    ):
        rewrite(graph)
        graph.apply()


def _add_constants_after_products(graph: EditableGraph) -> None:
    """Constants added before a product (positions, levels) are added after it: (x + c) W + b = x W + (c W + b).

    Keys and values then read the same bytes, those of the map itself.
    """
    for node in graph.nodes:
        weight = graph.value(node.input[1]) if node.op_type == "MatMul" else None
        after = graph.only_reader(node.output[0])
        if weight is None or weight.ndim != 2 or after is None or after.op_type != "Add":
            continue
        bias = _constant_of(graph, after, weight.shape[1:])
        source, total = node.input[0], np.zeros(len(weight))
        while (maker := graph.makers.get(source)) is not None and maker.op_type == "Add":
            rows = graph.shapes.get(source, [0])[-2:]
            constant = _constant_of(graph, maker, rows[-1:], rows)
            if constant is None or rows[-1] != len(weight):
                break
            total = total + _constant_value(graph, constant)
            source = next(name for name in maker.input if name != constant)
        if bias is None or source == node.input[0]:
            continue
        moved = total @ weight.astype(np.float64) + _constant_value(graph, bias)
        node.input[0] = source
        place = list(after.input).index(bias)
        after.input[place] = graph.constant(f"{node.name}.moved", moved.astype(np.float32))


def _constant_value(graph: EditableGraph, name: str) -> npt.NDArray[np.float64]:
    """The value of a constant, in FP64."""
    value = graph.value(name)
    assert value is not None
    return value.astype(np.float64)


def _constant_of(graph: EditableGraph, node: NodeProto, *shapes: Sequence[int]) -> str | None:
    """The one constant of a node's two inputs, if it has one of these shapes."""
    found = [name for name in node.input if name in graph.values]
    fits = len(found) == 1 and tuple(graph.values[found[0]].dims) in {tuple(shape) for shape in shapes}
    return found[0] if fits else None


def _fuse_integer_products(graph: EditableGraph) -> None:
    """An INT8 product and its bias become one kernel; otherwise ONNX Runtime makes a Gemm of them, in FP32.

    Signed activations are for ARM: their kernel is slow on x86, where ONNX Runtime makes them unsigned if it fuses the
    product itself. It does so unless a bias of one axis follows, so the bias gets three axes.
    """
    for node in graph.nodes:
        if node.op_type != "MatMul":
            continue
        left, right = (graph.makers.get(name) for name in node.input)
        if left is None or right is None or not left.op_type == right.op_type == "DequantizeLinear":
            continue
        weight, zero = graph.value(right.input[0]), graph.value(left.input[2])
        after = graph.only_reader(node.output[0])
        bias = None
        if weight is not None and weight.ndim == 2 and after is not None and after.op_type == "Add":
            bias = _constant_of(graph, after, weight.shape[1:])
        if zero is not None and zero.dtype == np.int8:
            if bias is not None and after is not None:
                apart = _constant_value(graph, bias).astype(np.float32)[None, None]
                after.input[list(after.input).index(bias)] = graph.constant(f"{node.name}.apart", apart)
            continue
        inputs = [left.input[0], right.input[0], left.input[1], right.input[1], left.input[2], right.input[2]]
        taken = [node]
        if bias is not None and after is not None:
            inputs.append(bias)
            taken.append(after)
        name = f"{node.name}IntegerToFloat"
        graph.replace(
            taken,
            [helper.make_node("MatMulIntegerToFloat", inputs, [taken[-1].output[0]], name, domain=RUNTIME)],
        )


def _drop_saturated_relus(graph: EditableGraph) -> None:
    """Drop a ReLU before a QuantizeLinear whose least value is zero: saturation has the same effect."""
    for node in graph.nodes:
        after = graph.only_reader(node.output[0]) if node.op_type == "Relu" else None
        if after is None or after.op_type != "QuantizeLinear":
            continue
        zero = graph.value(after.input[2])
        if zero is not None and int(zero) == np.iinfo(zero.dtype).min:
            after.input[0] = node.input[0]
            graph.replace([node], [])


def _layer_norms_as_instance_norms(graph: EditableGraph) -> None:
    """LayerNorms after sums of many rows become InstanceNormalizations of as many channels.

    ONNX Runtime fuses sum and LayerNorm into one kernel, which takes three times as long as the two.
    """
    for node in graph.nodes:
        shape = graph.shapes.get(node.input[0], []) if node.op_type == "LayerNormalization" else []
        settings = attributes(node)
        maker = graph.makers.get(node.input[0]) if shape else None
        if (
            maker is None
            or maker.op_type != "Add"
            or len(shape) != 3
            or shape[1] < _MANY_ROWS
            or settings.get("axis", -1) not in (-1, 2)
            or len(node.input) < 3
        ):
            continue
        name, rows = node.name, shape[1]
        ones, zeros = f"rows.{rows}.one", f"rows.{rows}.zero"
        if ones not in graph.values:
            graph.constant(ones, np.ones(rows, np.float32))
            graph.constant(zeros, np.zeros(rows, np.float32))
        graph.replace(
            [node],
            [
                helper.make_node(
                    "InstanceNormalization", [node.input[0], ones, zeros], [f"{name}.rows"], f"{name}/Rows",
                    epsilon=settings.get("epsilon", 1e-5),
                ),
                helper.make_node("Mul", [f"{name}.rows", node.input[1]], [f"{name}.scaled"], f"{name}/Scale"),
                helper.make_node("Add", [f"{name}.scaled", node.input[2]], [node.output[0]], f"{name}/Shift"),
            ],
        )  # fmt: skip


def _downsample_by_convolution(graph: EditableGraph) -> None:
    """Downsampling an INT8 map by 2, 4 or 8 becomes a convolution: the mean of the middle four pixels of each cell.

    The kernel has a fast size, 3x3 or 5x5, with zeros around the four.
    """
    for node in graph.nodes:
        source = graph.makers.get(node.input[0]) if node.op_type == "Resize" else None
        factor = _reduction(graph, node) if source is not None and source.op_type == "DequantizeLinear" else 0
        if source is None or factor not in (2, 4, 8):
            continue
        name, channels, (_, scale, zero) = node.name, graph.shapes[node.input[0]][1], source.input
        side, first = 5 if factor == 8 else 3, factor // 2 - 1
        kernel = np.zeros((channels, 1, side, side), np.int8)
        kernel[:, :, first : first + 2, first : first + 2] = 64
        parts: tuple[npt.NDArray[Any], ...] = (
            kernel,
            np.full(channels, 1 / 256, np.float32),
            np.zeros(channels, np.int8),
        )
        weight = [
            graph.constant(f"{name}.{role}", part) for role, part in zip(("four", "scale", "zero"), parts, strict=True)
        ]
        end = 1 if factor == 2 else 0  # the last kernel hangs over the border, with its zeros
        graph.replace(
            [node],
            [
                helper.make_node("DequantizeLinear", weight, [f"{name}.weight"], f"{name}/Weight", axis=0),
                helper.make_node(
                    "Conv", [node.input[0], f"{name}.weight"], [f"{name}.mean"], f"{name}/Mean", group=channels,
                    kernel_shape=[side, side], strides=[factor, factor], pads=[0, 0, end, end],
                ),
                helper.make_node("QuantizeLinear", [f"{name}.mean", scale, zero], [f"{name}.small"], f"{name}/Small"),
                helper.make_node("DequantizeLinear", [f"{name}.small", scale, zero], [node.output[0]], f"{name}/Near"),
            ],
        )  # fmt: skip


def _reduction(graph: EditableGraph, node: NodeProto) -> int:
    """The integer factor by which a linear Resize shrinks both sides; 0 for any other node."""
    before, after = graph.shapes.get(node.input[0], []), graph.shapes.get(node.output[0], [])
    if not (_linear(node) and len(before) == len(after) == 4 and min(before + after) > 0):
        return 0
    factor = before[2] // after[2]
    return factor if [after[2] * factor, after[3] * factor] == before[2:] else 0


def _linear(resize: NodeProto) -> bool:
    """Whether a Resize is bilinear with half-pixel centres."""
    settings = attributes(resize)
    centred = settings.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel"
    return settings.get("mode") == b"linear" and centred and not settings.get("antialias", 0)


def _upsample_by_products(graph: EditableGraph) -> None:
    """Upsampling a single plane becomes two small products: Resize uses one thread per plane."""
    for node in graph.nodes:
        if node.op_type != "Resize" or not _linear(node):
            continue
        before, after = (graph.shapes.get(name, []) for name in (node.input[0], node.output[0]))
        if before[:2] != [1, 1] or not 0 < before[2] <= after[2] or not 0 < before[3] <= after[3]:
            continue
        name = node.name
        rows = graph.constant(f"{name}.rows", _interpolation(before[2], after[2]))
        columns = graph.constant(f"{name}.columns", _interpolation(before[3], after[3]).T.copy())
        graph.replace(
            [node],
            [
                helper.make_node("MatMul", [node.input[0], columns], [f"{name}.wide"], f"{name}/Columns"),
                helper.make_node("MatMul", [rows, f"{name}.wide"], [node.output[0]], f"{name}/Rows"),
            ],
        )


def _interpolation(before: int, after: int) -> npt.NDArray[np.float32]:
    """(after, before): weight of each input in each output, half-pixel centres, border repeated."""
    place = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    low = np.floor(place).astype(int)
    share = (place - low).astype(np.float32)
    matrix = np.zeros((after, before), np.float32)
    np.add.at(matrix, (np.arange(after), low), 1 - share)
    np.add.at(matrix, (np.arange(after), np.minimum(low + 1, before - 1)), share)
    return matrix


def _rewrite_stem(graph: EditableGraph) -> None:
    """The first convolution takes four columns at a time: the INT8 kernel is slow with 3 channels, fast with 12.

    (1, H, W, 3) bytes are (1, H, W / 4, 12) without moving one. A 3x3 kernel with stride 2 then is one of 3x2 with
    stride (2, 1) that gives two columns at once, most of its weights zero; and its output (1, h, w / 2, 2 C) is
    (1, h, w, C), again without moving a byte.
    """
    for node in graph.nodes:
        if node.op_type == "Conv" and (parts := _stem_parts(graph, node)) is not None:
            _write_stem(graph, node, *parts)
            return


def _stem_parts(
    graph: EditableGraph, node: NodeProto
) -> tuple[NodeProto, NodeProto, NodeProto, NodeProto, NodeProto] | None:
    """Transpose, DQ, weight's DQ, bias's DQ and Q around a quantised 3x3 convolution of the camera's bytes."""
    near, weight, bias = (graph.makers.get(name) for name in (*node.input, "", "")[:3])
    after = graph.only_reader(node.output[0])
    if near is None or weight is None or bias is None or after is None or after.op_type != "QuantizeLinear":
        return None
    turned, last = graph.makers.get(near.input[0]), graph.only_reader(after.output[0])
    if turned is None or turned.op_type != "Transpose" or last is None or last.op_type != "DequantizeLinear":
        return None
    settings = attributes(node)
    size, made = graph.shapes.get(turned.input[0], []), graph.shapes.get(node.output[0], [])
    fits = (
        turned.input[0] == graph.graph.input[0].name
        and graph.only_reader(near.output[0]) is node
        and len(size) == 4
        and size[3] == 3
        and size[1] % 2 == size[2] % 4 == 0
        and min(size) > 0
        and settings.get("kernel_shape") == [3, 3]
        and settings.get("strides") == [2, 2]
        and settings.get("pads") == [1, 1, 1, 1]
        and settings.get("group", 1) == 1
        and settings.get("dilations", [1, 1]) == [1, 1]
        and made[2:] == [size[1] // 2, size[2] // 2]
    )
    return (turned, near, weight, bias, after) if fits else None


def _write_stem(
    graph: EditableGraph,
    node: NodeProto,
    turned: NodeProto,
    near: NodeProto,
    weight: NodeProto,
    bias: NodeProto,
    after: NodeProto,
) -> None:
    name = node.name
    (_, height, width, _), (_, channels, rows, columns) = graph.shapes[turned.input[0]], graph.shapes[node.output[0]]
    old = graph.value(weight.input[0])
    assert old is not None  # (C, 3, 3, 3) int8
    kernel = np.zeros((2, channels, 4 * 3, 3, 2), np.int8)  # of the left and the right column: over 4 pixels' colours
    for right in range(2):
        for x in range(3):
            column = 4 + 2 * right + x - 1  # among the eight that the two steps of the kernel see
            pixel, step = column % 4, column // 4
            kernel[right, :, 3 * pixel : 3 * pixel + 3, :, step] = old[:, :, :, x]
    for role, source in (("weight", weight), ("bias", bias)):
        for part, tensor in zip(("small", "scale", "zero"), source.input, strict=True):
            value = graph.value(tensor)
            assert value is not None
            twice = np.concatenate([value, value])
            if source is weight and part == "small":
                twice = kernel.reshape(2 * channels, 12, 3, 2)
            graph.constant(f"{name}.wide.{role}.{part}", twice)
    fours = graph.constant(f"{name}.wide.fours", np.array([1, height, width // 4, 12], np.int64))
    ones = graph.constant(f"{name}.wide.ones", np.array([1, rows, columns, channels], np.int64))

    def widened(role: str) -> NodeProto:
        inputs = [f"{name}.wide.{role}.{part}" for part in ("small", "scale", "zero")]
        return helper.make_node("DequantizeLinear", inputs, [f"{name}.wide.{role}"], f"{name}/{role.title()}", axis=0)

    inside = [f"{name}.wide.{part}" for part in ("bytes", "turned", "near", "made", "quantised", "back", "narrow")]
    graph.replace(
        [turned, near, node, after] if graph.only_reader(turned.output[0]) is near else [near, node, after],
        [
            helper.make_node("Reshape", [turned.input[0], fours], [inside[0]], f"{name}/Fours"),
            helper.make_node("Transpose", [inside[0]], [inside[1]], f"{name}/Turned", perm=[0, 3, 1, 2]),
            helper.make_node("DequantizeLinear", [inside[1], *near.input[1:]], [inside[2]], f"{name}/Near"),
            widened("weight"),
            widened("bias"),
            helper.make_node(
                "Conv", [inside[2], f"{name}.wide.weight", f"{name}.wide.bias"], [inside[3]], f"{name}/Wide",
                kernel_shape=[3, 2], strides=[2, 1], pads=[1, 1, 1, 0],
            ),
            helper.make_node("QuantizeLinear", [inside[3], *after.input[1:]], [inside[4]], f"{name}/Quantised"),
            helper.make_node("Transpose", [inside[4]], [inside[5]], f"{name}/Back", perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [inside[5], ones], [inside[6]], f"{name}/Ones"),
            helper.make_node("Transpose", [inside[6]], [after.output[0]], f"{name}/Planes", perm=[0, 3, 1, 2]),
        ],
    )  # fmt: skip
