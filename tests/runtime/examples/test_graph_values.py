"""The writer of outputs agrees with the `onnx` package."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from ovs_edge.bundle.manifest import TensorSpec
from ovs_edge.runtime.examples.graph_values import with_outputs


def test_outputs_are_appended() -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["a"], ["hidden"]), helper.make_node("Neg", ["hidden"], ["b"])],
        "g",
        [value("a", TensorProto.FLOAT, [1, 300])],
        [value("b", TensorProto.FLOAT, [1, 300])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = onnx.ModelProto.FromString(
        with_outputs(model.SerializeToString(), [TensorSpec("hidden", "float32", (1, 300))])
    )
    model.graph.output.append(value("hidden", TensorProto.FLOAT, [1, 300]))
    assert found == model
    onnx.checker.check_model(found, full_check=True)
    assert with_outputs(b"x", []) == b"x:\x00"  # an empty graph, which adds nothing
