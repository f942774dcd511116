"""What TensorRT made of a graph is compared with the file; GridSample spelt out gives what GridSample gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from support import exported

from ovs_edge.bundle.errors import PlanError
from ovs_edge.calibration.graph.constant_folding import fold_constants
from ovs_edge.calibration.graph.gather_sampling import replace_grid_samples
from ovs_edge.calibration.quantize.fp16 import convert_to_fp16
from ovs_edge.calibration.tensorrt.network import EngineLayer, check_layers, stated_types, summary
from ovs_edge.calibration.tensorrt.plugin import replace_with_plugin
from ovs_edge.export.onnx_writer import Port, to_onnx
from ovs_edge.export.parity_photos import photo_inputs
from ovs_edge.runtime.engines.tensorrt_api import MSDA_PLUGIN
from ovs_edge.segmenter.deformable import DeformableAttention

Floats = npt.NDArray[np.float32]


def _layer(name: str, found: str, linear: bool | None = None, quantised: bool = False) -> EngineLayer:
    return EngineLayer(
        name, "GRID_SAMPLE" if linear is not None else "CONVOLUTION", (found,), (name,), quantised, linear
    )


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
    spelt = replace_grid_samples(model)
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
        replace_grid_samples(model)


# The plugin, which nothing here can run: numpy runs it on what the graph would give it.


def _plugin(
    value: Floats, shapes: npt.NDArray[np.int32], starts: npt.NDArray[np.int32], places: Floats, weights: Floats
) -> Floats:
    """What its kernel computes, as its source has it."""
    (_, _, heads, depth), (_, queries, _, levels, points, _) = value.shape, places.shape
    result = np.zeros((1, queries, heads, depth), np.float64)
    head = np.arange(heads)[None, :]
    for level, point in np.ndindex(levels, points):
        height, width = shapes[level]
        x, y = (places[0, :, :, level, point, axis] * side - 0.5 for axis, side in ((0, width), (1, height)))
        inside = (y > -1) & (x > -1) & (y < height) & (x < width)
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        for column, near_x in ((left, left + 1 - x), (left + 1, x - left)):
            for row, near_y in ((top, top + 1 - y), (top + 1, y - top)):
                exists = inside & (row >= 0) & (row < height) & (column >= 0) & (column < width)
                token = starts[level] + np.where(exists, row * width + column, 0)
                share = np.where(exists, near_x * near_y, 0) * weights[0, :, :, level, point]
                result[0] += value[0, token, head] * share[..., None]
    return result.astype(np.float32)


def _cut(model: onnx.ModelProto, outputs: list[str], given: dict[str, Floats]) -> list[Any]:
    """Values of `outputs`, computed by ONNX Runtime from `given` and no further back."""
    wanted, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted & set(node.output) - set(given):
            wanted |= set(node.input)
            nodes.append(node)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
        if name in wanted
    ]
    ends = [onnx.ValueInfoProto(name=name) for name in outputs]
    weights = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    graph = helper.make_graph(nodes[::-1], "cut", inputs, ends, weights)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = ort.InferenceSession(part.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(outputs, {value.name: given[value.name] for value in inputs})


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
def test_the_plugin_is_given_what_makes_it_do_as_gridsample_does(half: bool, tmp_path: Path) -> None:
    model = fold_constants(exported.mini_file())
    model = convert_to_fp16(model) if half else model
    spelt = replace_with_plugin(model, "2")
    plugins = [node for node in spelt.graph.node if node.op_type == MSDA_PLUGIN]
    assert len(plugins) == 2
    assert "GridSample" not in {node.op_type for node in spelt.graph.node}
    settings = {entry.name: helper.get_attribute_value(entry) for entry in plugins[0].attribute}
    assert settings == {"plugin_version": b"2", "plugin_namespace": b""}
    onnx.save(spelt, str(tmp_path / "spelt.onnx"))
    assert set(stated_types(tmp_path / "spelt.onnx").values()) == ({"float16", "float32"} if half else {"float32"})
    vectors = np.random.default_rng(0).standard_normal((13, 2, 384)).astype(np.float32)
    given: dict[str, Any] = {"image": photo_inputs(None, exported.SIZE)[0], "text_embeddings": vectors}
    original = dict(given)
    tokens = sum(exported.SIZE[0] // stride * (exported.SIZE[1] // stride) for stride in (32, 16))
    for node in plugins:
        inputs = _cut(spelt, list(node.input), given)
        assert [value.dtype for value in inputs] == [np.float32, np.int32, np.int32, np.float32, np.float32]
        assert inputs[0].shape == (1, tokens, 8, 16)
        assert inputs[3].shape == (1, tokens, 8, 2, 1, 2)
        assert inputs[4].sum((3, 4)) == pytest.approx(np.ones((1, tokens, 8)), abs=1e-5)
        given[node.output[0]] = _plugin(*inputs)
        # The tensor that both graphs have: the sum over the levels, (1, heads, depth, queries).
        (end,) = (user.output[0] for user in spelt.graph.node if node.output[0] in user.input)
        (found,), (expected,) = _cut(spelt, [end], given), _cut(model, [end], original)
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
        given[node.output[0]] = expected.transpose(0, 3, 1, 2)  # what follows is held to the same
    labels, confidence = _cut(spelt, ["labels", "confidence"], given)
    expected_labels, expected_confidence = _cut(model, ["labels", "confidence"], original)
    assert (labels == expected_labels).mean() > 0.9999
    np.testing.assert_allclose(confidence, expected_confidence, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_plugin_takes_levels_in_any_order(seed: int) -> None:
    torch.manual_seed(seed)
    sizes = ((2, 3), (4, 6), (8, 5))
    tokens = sum(height * width for height, width in sizes)
    attention = DeformableAttention(16, levels=3, heads=2, points=2).eval()
    reference = torch.rand(tokens, 2)

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, query: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            return attention(query, reference, value, sizes)

    query, value = torch.rand(1, tokens, 16), torch.rand(1, tokens, 16)
    model = to_onnx(Module(), (query, value), [Port("query"), Port("value")], ["result"])
    # Graphs come from other optimisers in other orders, as long as what is read has been written.
    rng, nodes, written = np.random.default_rng(seed), list(model.graph.node), {"query", "value", ""}
    written |= {tensor.name for tensor in model.graph.initializer}
    del model.graph.node[:]
    while nodes:
        ready = [index for index, node in enumerate(nodes) if set(node.input) <= written]
        node = nodes.pop(int(rng.choice(ready)))
        written |= set(node.output)
        model.graph.node.append(node)
    spelt = replace_with_plugin(model, "1")
    (plugin,) = (node for node in spelt.graph.node if node.op_type == MSDA_PLUGIN)
    given: dict[str, Any] = {"query": query.numpy(), "value": value.numpy()}
    inputs = _cut(spelt, list(plugin.input), given)
    assert sorted(map(tuple, inputs[1].tolist())) == sorted(sizes)
    assert inputs[2][0] == 0
    (expected,) = _cut(model, ["result"], given)
    (found,) = _cut(spelt, ["result"], {**given, plugin.output[0]: _plugin(*inputs)})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_plugin_refuses_what_it_does_not_know() -> None:
    model = fold_constants(exported.mini_file())
    for kind, says in (("Mul", "is read by Div, expected Mul"), ("Add", "are not simply summed")):
        other = onnx.ModelProto()
        other.CopyFrom(model)
        module = next(node.name for node in other.graph.node if node.op_type == "GridSample").rpartition("/")[0]
        node = [node for node in other.graph.node if node.name.startswith(f"{module}/{kind}")][-1]
        node.op_type = "Div" if kind == "Mul" else "Sub"
        with pytest.raises(PlanError, match=says):
            replace_with_plugin(other, "1")
