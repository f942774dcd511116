"""Every form that the CPU's INT8 graph takes computes what it replaces."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ovs_edge.calibration.quantize.cpu_rewrites import rewrite_for_cpu, rewrite_quantised

RNG = np.random.default_rng(0)


def _model(
    nodes: Sequence[NodeProto], inputs: dict[str, tuple[int, Sequence[int]]], outputs: Sequence[str], **constants: Any
) -> onnx.ModelProto:
    for index, node in enumerate(nodes):
        node.name = node.name or f"part/{node.op_type}.{index}"
    graph = helper.make_graph(
        nodes,
        "part",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    return model


def _run(model: onnx.ModelProto, feeds: dict[str, np.ndarray], plain: bool = False) -> list[np.ndarray]:
    options = ort.SessionOptions()
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def _kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def _quantised(name: str, scale: float, zero: int) -> tuple[list[NodeProto], dict[str, np.generic]]:
    """A tensor through bytes and back: its twin is `NAME.near`."""
    inputs = [f"{name}.scale", f"{name}.zero"]
    nodes = [
        helper.make_node("QuantizeLinear", [name, *inputs], [f"{name}.small"]),
        helper.make_node("DequantizeLinear", [f"{name}.small", *inputs], [f"{name}.near"]),
    ]
    return nodes, {inputs[0]: np.float32(scale), inputs[1]: np.uint8(zero)}


def test_products_take_their_bias_and_relus_leave_saturation() -> None:
    weight = RNG.integers(-127, 128, (16, 24), dtype=np.int8)
    before, constants = _quantised("x", 0.02, 128)
    after, more = _quantised("y", 0.05, 0)
    nodes = [
        *before,
        helper.make_node("DequantizeLinear", ["w", "w.scale", "w.zero"], ["w.near"], axis=1),
        helper.make_node("MatMul", ["x.near", "w.near"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["y"]),
        *after,
    ]
    model = _model(
        nodes, {"x": (TensorProto.FLOAT, (1, 9, 16))}, ["y.near"], w=weight, bias=RNG.normal(size=24).astype(np.float32),
        **{"w.scale": np.full(24, 0.01, np.float32), "w.zero": np.zeros(24, np.int8)}, **constants, **more,
    )  # fmt: skip
    feeds = {"x": RNG.normal(size=(1, 9, 16)).astype(np.float32)}
    (expected,) = _run(model, feeds, plain=True)
    rewrite_quantised(model)
    assert "MatMulIntegerToFloat" in _kinds(model)
    assert not {"MatMul", "Add", "Relu"} & set(_kinds(model))
    (found,) = _run(model, feeds)
    assert np.abs(found - expected).max() <= 0.05 + 1e-6  # one step, where a sum fell on the border of two
    assert (found != expected).mean() < 0.01
    assert (expected == 0).any()
    assert (expected > 0).any()


@pytest.mark.parametrize(("rows", "kind"), [(200, "InstanceNormalization"), (40, "LayerNormalization")])
def test_norms_of_many_rows(rows: int, kind: str) -> None:
    model = _model(
        [
            helper.make_node("Add", ["x", "x"], ["sum"]),
            helper.make_node("LayerNormalization", ["sum", "weight", "bias"], ["y"], epsilon=1e-5),
        ],
        {"x": (TensorProto.FLOAT, (1, rows, 32))}, ["y"],
        weight=RNG.normal(size=32).astype(np.float32), bias=RNG.normal(size=32).astype(np.float32),
    )  # fmt: skip
    feeds = {"x": 3 + 5 * RNG.normal(size=(1, rows, 32)).astype(np.float32)}
    (expected,) = _run(model, feeds)
    rewrite_quantised(model)
    assert kind in _kinds(model)
    assert np.allclose(_run(model, feeds)[0], expected, atol=1e-4)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_smaller_maps_are_means_of_the_middle_four(factor: int) -> None:
    nodes, constants = _quantised("x", 0.03, 120)
    nodes.append(helper.make_node("Resize", ["x.near", "", "", "size"], ["y"], mode="linear"))
    size = np.array([1, 16, 96 // factor, 64 // factor], np.int64)
    model = _model(nodes, {"x": (TensorProto.FLOAT, (1, 16, 96, 64))}, ["y"], size=size, **constants)
    feeds = {"x": RNG.normal(size=(1, 16, 96, 64)).astype(np.float32)}
    (expected,) = _run(model, feeds, plain=True)
    rewrite_quantised(model)
    assert "Resize" not in _kinds(model)
    (found,) = _run(model, feeds)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 0.03 / 2 + 1e-5  # rounded to the map's own steps


@pytest.mark.parametrize("size", [(1, 16, 36, 24), (1, 16, 48, 21)])
def test_other_resizing_stays(size: tuple[int, ...]) -> None:
    nodes, constants = _quantised("x", 0.03, 120)
    nodes.append(helper.make_node("Resize", ["x.near", "", "", "size"], ["y"], mode="linear"))
    model = _model(
        nodes, {"x": (TensorProto.FLOAT, (1, 16, 96, 64))}, ["y"], size=np.array(size, np.int64), **constants
    )
    rewrite_quantised(model)
    assert "Resize" in _kinds(model)


@pytest.mark.parametrize("size", [(384, 256), (100, 64), (97, 131)])
def test_a_plane_made_larger(size: tuple[int, int]) -> None:
    model = _model(
        [helper.make_node("Resize", ["x", "", "", "size"], ["y"], mode="linear")],
        {"x": (TensorProto.FLOAT, (1, 1, 96, 64))}, ["y"], size=np.array((1, 1, *size), np.int64),
    )  # fmt: skip
    feeds = {"x": RNG.normal(size=(1, 1, 96, 64)).astype(np.float32)}
    (expected,) = _run(model, feeds)
    rewrite_quantised(model)
    assert _kinds(model) == ["MatMul", "MatMul"]
    assert np.allclose(_run(model, feeds)[0], expected, atol=1e-4)


def _stem(width: int, pads: list[int]) -> onnx.ModelProto:
    zeros = np.zeros(16, np.int8)
    after, constants = _quantised("z", 0.04, 90)
    return _model(
        [
            helper.make_node("Transpose", ["image"], ["x.small"], perm=[0, 3, 1, 2]),
            helper.make_node("DequantizeLinear", ["x.small", "x.scale", "x.zero"], ["x"]),
            helper.make_node("DequantizeLinear", ["w", "w.scale", "w.zero"], ["w.near"], axis=0),
            helper.make_node("DequantizeLinear", ["b", "b.scale", "b.zero"], ["b.near"], axis=0),
            helper.make_node(
                "Conv", ["x", "w.near", "b.near"], ["z"], kernel_shape=[3, 3], strides=[2, 2], pads=pads
            ),
            *after,
            helper.make_node("Relu", ["z.near"], ["y"]),
        ],
        {"image": (TensorProto.UINT8, (1, 64, width, 3))}, ["y"], w=RNG.integers(-127, 128, (16, 3, 3, 3), dtype=np.int8),
        b=RNG.integers(-9000, 9000, 16, dtype=np.int32),
        **{"x.scale": np.float32(1 / 128), "x.zero": np.uint8(127), "w.scale": np.full(16, 0.01, np.float32),
           "w.zero": zeros, "b.scale": np.full(16, 0.01 / 128, np.float32), "b.zero": zeros.astype(np.int32)},
        **constants,
    )  # fmt: skip


def test_the_first_convolution_on_four_columns() -> None:
    model = _stem(96, [1, 1, 1, 1])
    feeds = {"image": RNG.integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)}
    (expected,) = _run(model, feeds, plain=True)
    rewrite_quantised(model)
    (kernel,) = [list(node.attribute[0].ints) for node in model.graph.node if node.op_type == "Conv"]
    assert kernel == [3, 2]
    (found,) = _run(model, feeds)
    assert found.shape == expected.shape == (1, 16, 32, 48)
    assert np.abs(found - expected).max() <= 0.04 + 1e-6
    assert (found != expected).mean() < 0.01


@pytest.mark.parametrize(("width", "pads"), [(98, [1, 1, 1, 1]), (96, [0, 0, 1, 1])])
def test_a_first_convolution_of_another_kind_stays(width: int, pads: list[int]) -> None:
    model = _stem(width, pads)
    rewrite_quantised(model)
    (kernel,) = [list(node.attribute[0].ints) for node in model.graph.node if node.op_type == "Conv"]
    assert kernel == [3, 3]


def test_constants_move_behind_products() -> None:
    floats = {
        name: RNG.normal(size=shape).astype(np.float32)
        for name, shape in (("level", (8,)), ("place", (50, 8)), ("keys", (8, 8)), ("values", (8, 8)), ("bias", (8,)))
    }
    model = _model(
        [
            helper.make_node("Add", ["x", "level"], ["levelled"]),
            helper.make_node("Add", ["levelled", "place"], ["placed"]),
            helper.make_node("MatMul", ["placed", "keys"], ["k"]),
            helper.make_node("Add", ["k", "bias"], ["k.sum"]),
            helper.make_node("MatMul", ["levelled", "values"], ["v"]),
            helper.make_node("Add", ["bias", "v"], ["v.sum"]),
        ],
        {"x": (TensorProto.FLOAT, (1, 50, 8))}, ["k.sum", "v.sum"], **floats,
    )  # fmt: skip
    moved = rewrite_for_cpu(model)
    products = [node for node in moved.graph.node if node.op_type == "MatMul"]
    assert [node.input[0] for node in products] == ["x", "x"]
    feeds = {"x": RNG.normal(size=(1, 50, 8)).astype(np.float32)}
    for found, expected in zip(_run(moved, feeds), _run(model, feeds), strict=True):
        assert np.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(), (1,), (50, 1), (1, 1, 50, 8), (1, 50, 8)])
def test_constants_of_other_shapes_stay(shape: tuple[int, ...]) -> None:
    floats = {name: RNG.normal(size=size).astype(np.float32) for name, size in (("w", (8, 8)), ("bias", (8,)))}
    model = _model(
        [
            helper.make_node("Add", ["x", "c"], ["placed"]),
            helper.make_node("MatMul", ["placed", "w"], ["k"]),
            helper.make_node("Add", ["k", "bias"], ["y"]),
        ],
        {"x": (TensorProto.FLOAT, (1, 50, 8))}, ["y"], c=RNG.normal(size=shape).astype(np.float32), **floats,
    )  # fmt: skip
    feeds = {"x": RNG.normal(size=(1, 50, 8)).astype(np.float32)}
    (found,), (expected,) = _run(rewrite_for_cpu(model), feeds), _run(model, feeds)
    assert found.shape == expected.shape
    assert np.allclose(found, expected, atol=1e-4)


def test_arms_products_are_integer_here_as_well() -> None:
    """Where such a graph is only tried: ONNX Runtime turns signed bytes to unsigned ones in what it fuses itself."""
    weight = RNG.integers(-127, 128, (16, 24), dtype=np.int8)
    model = _model(
        [
            helper.make_node("QuantizeLinear", ["x", "x.scale", "x.zero"], ["x.small"]),
            helper.make_node("DequantizeLinear", ["x.small", "x.scale", "x.zero"], ["x.near"]),
            helper.make_node("DequantizeLinear", ["w", "w.scale", "w.zero"], ["w.near"], axis=1),
            helper.make_node("MatMul", ["x.near", "w.near"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["y"]),
        ],
        {"x": (TensorProto.FLOAT, (1, 9, 16))}, ["y"], w=weight, bias=RNG.normal(size=24).astype(np.float32),
        **{"x.scale": np.float32(0.02), "x.zero": np.int8(-5), "w.scale": np.full(24, 0.01, np.float32),
           "w.zero": np.zeros(24, np.int8)},
    )  # fmt: skip
    feeds = {"x": RNG.normal(size=(1, 9, 16)).astype(np.float32)}
    (expected,) = _run(model, feeds, plain=True)
    rewrite_quantised(model)
    options = ort.SessionOptions()
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/seen.onnx"
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        seen = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert "MatMulIntegerToFloat" in seen
    assert "Gemm" not in seen
    assert np.allclose(session.run(None, feeds)[0], expected, atol=1e-4)
