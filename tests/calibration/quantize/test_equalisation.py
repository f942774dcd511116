"""Channels of linear chains get like ranges, and the graph computes the same; everything else stays as it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ovs_edge.calibration.quantize.comparison import open_model
from ovs_edge.calibration.quantize.equalisation import equalised, linear_chains


def _conv(name: str, source: str, weight: str | None = None) -> NodeProto:
    return helper.make_node("Conv", [source, weight or f"{name}.w", f"{name}.b"], [name], f"{name}/Conv")


def _model(nodes: list[NodeProto], output: str = "y", channels: int = 6) -> onnx.ModelProto:
    """Pointwise convolutions of `channels`; those of the names a and b write channels of very unlike size."""
    rng = np.random.default_rng(0)
    weights = []
    for name in dict.fromkeys(name for node in nodes if node.op_type == "Conv" for name in node.input[1:]):
        shape = (channels, channels, 1, 1) if name.endswith(".w") else (channels,)
        value = rng.standard_normal(shape).astype(np.float32)
        if name[0] in "ab":
            value *= np.float32(10.0) ** np.linspace(-1, 1, channels, dtype=np.float32).reshape(
                -1, *[1] * (len(shape) - 1)
            )
        weights.append(numpy_helper.from_array(value, name))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def _feeds(channels: int = 6) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((1, channels, 8, 8)).astype(np.float32)} for _ in range(3)]


RESIDUAL = [
    _conv("a", "x"),
    _conv("r", "a"),
    helper.make_node("Relu", ["r"], ["relu"], "relu"),
    _conv("b", "relu"),
    helper.make_node("Add", ["a", "b"], ["sum"], "sum"),
    _conv("y", "sum"),
]


def test_a_residual_chain_shares_its_factors() -> None:
    model = _model(RESIDUAL)
    (chain,) = linear_chains(model)
    assert chain.tensors == ("a", "b", "sum")
    assert [node.name for node in chain.writers] == ["a/Conv", "b/Conv"]
    assert {node.name for node in chain.users} == {"r/Conv", "y/Conv"}


def test_the_graph_computes_the_same_with_like_channels() -> None:
    model, ticks = _model(RESIDUAL), []
    result = equalised(model, _feeds(), lambda: ticks.append(1))
    assert len(ticks) == 3
    spread = []
    for graph in (model, result):
        shown = onnx.ModelProto()
        shown.CopyFrom(graph)
        shown.graph.output.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, None))
        y, total = open_model(shown, 1).run(["y", "sum"], _feeds()[0])
        spread.append((y, np.abs(total[0]).reshape(6, -1).max(1)))
    np.testing.assert_allclose(spread[1][0], spread[0][0], rtol=1e-4, atol=1e-3)
    before, after = (ranges.max() / ranges.min() for _, ranges in spread)
    assert before > 200
    assert after < before / 25


@pytest.mark.parametrize(
    "nodes",
    [
        [_conv("a", "x"), helper.make_node("Relu", ["a"], ["relu"], "relu"), _conv("y", "relu")],
        [_conv("y", "x")],
        [_conv("a", "x"), _conv("c", "a", "a.w"), _conv("y", "c", "a.w")],
        [_conv("a", "x"), helper.make_node("Resize", ["a", "", "s"], ["up"], "up"), _conv("y", "up")],
    ],
    ids=["activation", "output", "shared weight", "resized"],
)
def test_what_is_not_linear_stays(nodes: list[NodeProto]) -> None:
    model = _model(nodes)
    assert linear_chains(model) == []
    if all(node.op_type != "Resize" for node in nodes):
        assert equalised(model, _feeds(), lambda: None) == model


def test_a_channel_that_is_always_zero() -> None:
    model = _model(RESIDUAL)
    for tensor in model.graph.initializer:
        if tensor.name in ("a.w", "a.b", "b.w", "b.b"):
            value = numpy_helper.to_array(tensor).copy()
            value[2] = 0
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    (found,) = open_model(equalised(model, _feeds(), lambda: None), 1).run(["y"], _feeds()[0])
    (expected,) = open_model(model, 1).run(["y"], _feeds()[0])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
