"""Weights are rounded for the outputs' sake: less error for correlated inputs, the same bits for uncorrelated ones."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ovs_edge.calibration.graph.layers import QuantizableLayer
from ovs_edge.calibration.quantize.comparison import open_model
from ovs_edge.calibration.quantize.weight_rounding import input_moments, round_plainly, round_weights

RNG = np.random.default_rng(0)


def _correlated(count: int, size: int) -> np.ndarray:
    """Inputs (count, size), neighbours alike and none negative, as behind a ReLU."""
    rows = np.cumsum(np.random.default_rng(count).standard_normal((count, size)), axis=1)
    return np.maximum(rows + 1, 0)


def _scale(value: np.ndarray, limit: int = 127) -> np.ndarray:
    return (np.abs(value).reshape(len(value), -1).max(1) / limit).astype(np.float32)


def test_outputs_come_nearer_on_inputs_not_seen() -> None:
    value = RNG.standard_normal((8, 27)).astype(np.float32)
    seen, other = _correlated(2000, 27), _correlated(1999, 27)
    scale = _scale(value)
    errors = []
    for small in (round_plainly(value, scale, 0, 127), round_weights(value, scale, 0, 127, (seen.T @ seen)[None])):
        errors.append(np.square(other @ (small * scale[:, None] - value).T).mean())
    assert errors[1] < errors[0] / 4


def test_uncorrelated_inputs_change_nothing() -> None:
    value = RNG.standard_normal((5, 3, 3, 3)).astype(np.float32)
    scale = _scale(value)
    found = round_weights(value, scale, 0, 127, np.eye(27)[None])
    np.testing.assert_array_equal(found, round_plainly(value, scale, 0, 127))


@pytest.mark.parametrize("limit", [64, 127])
def test_weights_stay_within_their_limit(limit: int) -> None:
    value = RNG.standard_normal((6, 9)).astype(np.float32)
    rows = _correlated(100, 9)
    found = round_weights(value, _scale(value, limit) / 2, 0, limit, (rows.T @ rows)[None])
    assert np.abs(found.astype(int)).max() <= limit


def test_moments_that_are_no_numbers() -> None:
    value = RNG.standard_normal((2, 4)).astype(np.float32)
    found = round_weights(value, _scale(value), 0, 127, np.full((1, 4, 4), np.nan))
    np.testing.assert_array_equal(found, round_plainly(value, _scale(value), 0, 127))


def _layer(operator: str, axis: int) -> QuantizableLayer:
    return QuantizableLayer("node", "heads", "x", "y", "w", axis, 1)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_moments_of_a_convolution(groups: int) -> None:
    """A weight's quadratic form with the moments is the energy of what it gives."""
    value = RNG.standard_normal((4, 4 // groups, 3, 3)).astype(np.float32)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], "node", group=groups, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]
    )
    model = _model(node, value, [1, 4, 10, 12])
    feed = {"x": RNG.standard_normal((1, 4, 10, 12)).astype(np.float32)}
    moments = input_moments(model, [_layer("Conv", 0)], [feed], lambda: None)["node"]
    (found,) = open_model(model, 1).run(["y"], feed)
    per_group = 4 // groups
    for channel in range(4):
        row = value[channel].reshape(-1).astype(float)
        energy = row @ moments[channel // per_group] @ row
        assert energy == pytest.approx(float(np.square(found[0, channel]).sum()), rel=1e-4)


def test_moments_of_a_product() -> None:
    value = RNG.standard_normal((6, 5)).astype(np.float32)
    model = _model(helper.make_node("MatMul", ["x", "w"], ["y"], "node"), value, [1, 7, 6])
    feed = {"x": RNG.standard_normal((1, 7, 6)).astype(np.float32)}
    (moments,) = input_moments(model, [_layer("MatMul", 1)], [feed], lambda: None)["node"]
    expected = np.square(feed["x"][0] @ value).sum(0)
    np.testing.assert_allclose(np.einsum("no,nm,mo->o", value, moments, value), expected, rtol=1e-4)


def _model(node: onnx.NodeProto, value: np.ndarray, shape: list[int]) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
