"""What TensorRT made of a graph is compared with the file; GridSample spelt out gives what GridSample gives."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from ovs_edge.bundle.errors import PlanError
from ovs_edge.calibration.build_network import Layer, check_layers, summary
from ovs_edge.calibration.gather import to_gather


def _layer(name: str, found: str, linear: bool | None = None, quantised: bool = False) -> Layer:
    return Layer(name, "GRID_SAMPLE" if linear is not None else "CONVOLUTION", (found,), (name,), quantised, linear)


def test_a_layer_in_another_type_or_sampling_is_refused() -> None:
    stated = {"a": "float16", "b": "float32"}
    sound = [_layer("a", "float16"), _layer("b", "float32", True), _layer("made up", "float16"), _layer("n", "int64")]
    check_layers(sound, stated)
    assert summary(sound) == {"CONVOLUTION": {"float16": 2, "int64": 1}, "GRID_SAMPLE": {"float32": 1}}
    assert summary([_layer("q", "float16", quantised=True)]) == {"CONVOLUTION": {"int8": 1}}
    for wrong, says in (
        ([_layer("b", "float16")], "computes b in float16, the file says float32"),
        ([_layer("a", "float16"), _layer("new", "bfloat16")], "computes new in bfloat16, the file says float16 or"),
        ([_layer("b", "float32", False)], "takes b for nearest sampling; build with --msda gather"),
        ([_layer("other", "float16")], "none of the file's tensors"),
    ):
        with pytest.raises(PlanError, match=says):
            check_layers(wrong, stated)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_gather_samples_as_gridsample_does(dtype: type[np.float32 | np.float16]) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    rng = np.random.default_rng(0)
    # Far outside, on edges and centres of pixels, and between them.
    grid = rng.uniform(-1.4, 1.4, (4, 30, 3, 2)).astype(np.float32)
    grid[:, :10] = rng.integers(-9, 10, (4, 10, 3, 2)) / 6
    feeds = {"x": rng.standard_normal((4, 5, 12, 9)).astype(dtype), "g": grid}
    graph = helper.make_graph(
        [helper.make_node("GridSample", ["x", "g"], ["y"], "layer/GridSample", mode="bilinear")],
        "sampling",
        [
            helper.make_tensor_value_info("x", kind, [4, 5, 12, 9]),
            helper.make_tensor_value_info("g", TensorProto.FLOAT, [4, 30, 3, 2]),
        ],
        [helper.make_tensor_value_info("y", kind, [4, 5, 30, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    spelt = to_gather(model)
    assert "GridSample" not in {node.op_type for node in spelt.graph.node}
    (found,) = ort.InferenceSession(spelt.SerializeToString()).run(None, feeds)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    wide = {**feeds, "x": feeds["x"].astype(np.float32)}
    (expected,) = ort.InferenceSession(model.SerializeToString()).run(None, wide)
    np.testing.assert_allclose(found, expected, atol=1e-5 if dtype is np.float32 else 2e-3)


def test_gather_refuses_another_sampling() -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("GridSample", ["x", "g"], ["y"], "a", mode="nearest")
    inputs = [value("x", TensorProto.FLOAT, [1, 1, 2, 2]), value("g", TensorProto.FLOAT, [1, 1, 1, 2])]
    graph = helper.make_graph([node], "g", inputs, [value("y", TensorProto.FLOAT, [1, 1, 1, 1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(PlanError, match="a samples by .b'nearest'"):
        to_gather(model)
