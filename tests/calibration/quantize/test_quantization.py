"""The passes that write FP16 and INT8: what they change, what they leave alone, and that it computes what it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, shape_inference
from support.exported import mini_file

from ovs_edge.calibration.graph.constant_folding import fold_constants, module_of
from ovs_edge.calibration.graph.layers import find_layers, group_names, group_of
from ovs_edge.calibration.quantize import ranges
from ovs_edge.calibration.quantize.comparison import open_model
from ovs_edge.calibration.quantize.fp16 import convert_to_fp16, emulate_fp16, fp16_tensors, fp32_nodes
from ovs_edge.calibration.quantize.qdq import (
    CPU,
    TENSORRT,
    Scheme,
    convolution_inputs,
    find_camera_input,
    observed_tensors,
    quantize_layers,
)
from ovs_edge.calibration.quantize.ranges import Method, Statistics, all_finite, find_statistics


@pytest.fixture(scope="module")
def mini() -> onnx.ModelProto:
    """A model with every kind of layer, folded; shared, so change nothing."""
    return fold_constants(mini_file())


def _types(model: onnx.ModelProto) -> dict[str, int]:
    graph = shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def test_folding_merges_norms_and_keeps_names(mini: onnx.ModelProto) -> None:
    operators = {node.op_type for node in mini.graph.node}
    assert "BatchNormalization" not in operators
    assert "Conv" in operators
    assert {entry.domain for entry in mini.opset_import} <= {"", "ai.onnx"}
    assert any(module_of(node) == "model.pixel_decoder.layers.0.linear1" for node in mini.graph.node)
    assert len({node.name for node in mini.graph.node}) == len(mini.graph.node)


def test_fp16_is_everywhere_but_where_it_loses(mini: onnx.ModelProto) -> None:
    model = convert_to_fp16(mini)
    onnx.checker.check_model(model, full_check=True)
    types = _types(model)
    for old, new in ((mini.graph.input, model.graph.input), (mini.graph.output, model.graph.output)):
        assert [(v.name, v.type.tensor_type.elem_type) for v in old] == [
            (v.name, v.type.tensor_type.elem_type) for v in new
        ]
    for node in model.graph.node:
        floats = {types[name] for name in node.input if types.get(name) in (TensorProto.FLOAT, TensorProto.FLOAT16)}
        if node.op_type in ("LayerNormalization", "Softmax", "GridSample", "ReduceL2"):
            assert floats == {TensorProto.FLOAT}, node.name
        elif (node.op_type in ("Conv", "Clip") and "backbone" in node.name) or (
            "linear1" in node.name and node.op_type == "MatMul"
        ):
            assert floats == {TensorProto.FLOAT16}, node.name
    stored = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert stored == {TensorProto.FLOAT16, TensorProto.FLOAT}  # weights, and the pixels' mean and deviation
    # The cosine, and what positions are computed from.
    wide = fp32_nodes(mini.graph.node)
    assert {"model/MatMul_2", "model/Sub", "model.pixel_decoder.layers.0.self_attn/Add_2"} <= wide


def test_fp16_values_are_finite_and_never_vanish() -> None:
    values = np.array([1e-12, -1e-12, 0, 1e9, -1e9, 1.5], np.float32)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "c"], ["y"], "/Add")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [6])],
        [numpy_helper.from_array(values, "c")],
    )
    model = convert_to_fp16(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))
    (stored,) = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
    tiny = float(np.finfo(np.float16).smallest_subnormal)
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored.astype(np.float64), [tiny, -tiny, 0, 65504, -65504, 1.5])
    feeds = [{"x": np.zeros(6, np.float32)}]
    trial = emulate_fp16(model)
    assert all_finite(trial, fp16_tensors(trial), feeds)
    assert not all_finite(trial, fp16_tensors(trial), [{"x": np.full(6, 6e4, np.float32)}])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-70000, 70000, width=32), min_size=4, max_size=4))
def test_rounding_is_that_of_fp16(values: list[float]) -> None:
    x = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        # FP16 weight, FP32 product, rounded once when it is written.
        expected = x.astype(np.float16).astype(np.float32) * np.float32(np.float16(0.3))
        expected = expected.astype(np.float16).astype(np.float32)
    found = _scaling().run(None, {"x": x})[0]
    np.testing.assert_array_equal(found, expected)


def _scaling(_made: list[ort.InferenceSession] = []) -> ort.InferenceSession:  # noqa: B006
    if not _made:
        graph = helper.make_graph(
            [helper.make_node("Mul", ["x", "c"], ["y"], "/Mul")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
            [numpy_helper.from_array(np.array(0.3, np.float32), "c")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        _made.append(open_model(emulate_fp16(convert_to_fp16(model)), 1))
    return _made[0]


def test_what_is_never_quantised(mini: onnx.ModelProto) -> None:
    layers = find_layers(mini)
    names = {layer.node for layer in layers}
    # As modules, or folded into the attention's own arithmetic.
    assert not [name for name in names if "sampling_offsets" in name or "attention_weights" in name]
    assert not [name for name in names if name.startswith("model.pixel_decoder.layers.0.self_attn/")]
    assert not [name for name in names if name.startswith(("model/", "/", "model.query_decoder/"))]  # cosine, masks
    assert "model.pixel_decoder.layers.0.self_attn.value_proj/MatMul" in names
    assert group_names(layers)[0] == "backbone.stem"
    assert {"heads", "pixel_decoder.convolutions"} <= set(group_names(layers))
    assert sum(layer.work for layer in layers) == pytest.approx(1.0e8, rel=0.05)


@pytest.mark.parametrize(
    ("module", "operator", "group"),
    [
        ("model.backbone.stages.2.1.depthwise.0", "Conv", "backbone.stages.2"),
        ("model.backbone.layer3.5.conv2", "Conv", "backbone.layer3"),
        ("model.pixel_decoder.fpn.0.lateral.conv", "Conv", "pixel_decoder.convolutions"),
        ("model.pixel_decoder.layers.1.self_attn.output_proj", "MatMul", "pixel_decoder.projections"),
        ("model.query_decoder.layers.2.linear2", "MatMul", "query_decoder.ffn"),
        ("model.query_decoder.layers.2.cross_attn", "MatMul", "query_decoder.projections"),
        ("model.query_decoder.mask_embed.layers.0", "MatMul", "heads"),
        ("model.class_embed", "MatMul", "heads"),
    ],
)
def test_groups(module: str, operator: str, group: str) -> None:
    assert group_of(module, operator) == group


def _residual() -> onnx.ModelProto:
    """conv, relu, depthwise conv with clip, conv, sum: what backbones are made of."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (16, 16, 1, 1), "w2": (16, 1, 3, 3), "w3": (16, 16, 1, 1), "w4": (16, 16, 1, 1)}
    constants = {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    constants |= {name.replace("w", "b"): rng.normal(0, 0.5, 16).astype(np.float32) for name in shapes}
    constants |= {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], "model.backbone.stages.0.0/Conv"),
        node("Relu", ["c1"], ["r1"], "model.backbone.stages.0.0/Relu"),
        node("Conv", ["r1", "w2", "b2"], ["c2"], "model.backbone.stages.0.1/Conv", group=16, pads=[1, 1, 1, 1]),
        node("Clip", ["c2", "zero", "six"], ["r2"], "model.backbone.stages.0.1/Clip"),
        node("Conv", ["r2", "w3", "b3"], ["c3"], "model.backbone.stages.0.2/Conv"),
        node("Add", ["r1", "c3"], ["sum"], "model.backbone.stages.0/Add"),
        node("Conv", ["sum", "w4", "b4"], ["c4"], "model.backbone.stages.1.0/Conv"),
        node("Neg", ["c4"], ["y"], "/Neg"),
    ]
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [port("x", TensorProto.FLOAT, [1, 16, 24, 24])], [port("y", TensorProto.FLOAT, [1, 16, 24, 24])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def _feeds(count: int = 3) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(0.5, 1, (1, 16, 24, 24)).astype(np.float32)} for _ in range(count)]


def _statistics(model: onnx.ModelProto, method: Method = "min-max") -> Statistics:
    layers = find_layers(model)
    return find_statistics(
        model, observed_tensors(model, layers), convolution_inputs(model, layers), _feeds(), method, lambda: None
    )


@pytest.mark.parametrize(
    ("scheme", "exact"), [(CPU["x86"], False), (CPU["arm"], True), (TENSORRT, True)], ids=["x86", "arm", "trt"]
)
def test_int8_computes_nearly_the_same(scheme: Scheme, exact: bool) -> None:
    model = _residual()
    small = quantize_layers(model, find_layers(model), _statistics(model), scheme)
    onnx.checker.check_model(small, full_check=True)
    feed = _feeds()[0]
    (expected,), (found,) = (open_model(m, 1, exact=exact).run(None, feed) for m in (model, small))
    assert np.abs(found - expected).mean() < 0.05 * expected.std()
    assert abs((found - expected).mean((0, 2, 3))).max() < 0.02 * expected.std()  # no channel is shifted


def test_a_cpu_gets_one_chain_without_gaps(tmp_path: Path) -> None:
    model = _residual()
    small = quantize_layers(model, find_layers(model), _statistics(model), CPU["x86"])
    assert not [node for node in small.graph.node if node.op_type in ("Relu", "Clip")]
    for tensor in small.graph.initializer:
        if tensor.name.endswith(".weight.small"):
            assert np.abs(numpy_helper.to_array(tensor)).max() == 64  # a pair of products fits 16 bits
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(small.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fused = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert fused.count("QLinearConv") == 4
    assert fused.count("QLinearAdd") == 1
    assert fused.count("QuantizeLinear") == fused.count("DequantizeLinear") == 1


def test_tensorrt_gets_its_own_rules() -> None:
    model = _residual()
    small = convert_to_fp16(quantize_layers(model, find_layers(model), _statistics(model), TENSORRT))
    onnx.checker.check_model(small, full_check=True)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in small.graph.initializer}
    for node in small.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert constants[node.input[2]].dtype == np.int8
            assert not constants[node.input[2]].any()
            assert constants[node.input[1]].dtype == np.float16
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            assert constants[node.input[0]].dtype == np.int8
            assert constants[node.input[1]].shape == (16,)
        if node.op_type == "Conv":
            # Both from INT8, the bias as it was but for its correction.
            assert all(name.split(".fp16")[0].endswith("near") for name in node.input[:2])
            assert constants[node.input[2]].dtype == np.float16
    # Nothing is quantised on its way to a sum.
    (total,) = (node for node in small.graph.node if node.op_type == "Add")
    assert not any("near" in name for name in total.input)


def test_scales_are_held_by_fp16() -> None:
    model = _residual()
    small = quantize_layers(model, find_layers(model), _statistics(model), TENSORRT)
    for tensor in small.graph.initializer:
        if tensor.name.endswith(".scale"):
            value = numpy_helper.to_array(tensor)
            np.testing.assert_array_equal(value, value.astype(np.float16).astype(np.float32))


def test_a_layer_that_never_fires_and_a_dead_channel() -> None:
    model = _residual()
    for tensor in model.graph.initializer:
        if tensor.name in ("w3", "b2"):
            value = numpy_helper.to_array(tensor).copy()
            value[0] = 0 if tensor.name == "w3" else value[0]
            tensor.CopyFrom(numpy_helper.from_array(value if tensor.name == "w3" else value - 1e3, tensor.name))
    layers = find_layers(model)
    for scheme in (CPU["x86"], TENSORRT):
        small = quantize_layers(model, layers, _statistics(model), scheme)
        assert np.isfinite(open_model(small, 1, exact=True).run(None, _feeds()[0])[0]).all()


def test_ranges_by_each_method() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (1, 16, 64, 64)).astype(np.float32)
    values[0, 0, 0, 0], values[0, 0, 0, 1] = 50, -20  # outliers
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"], "/Identity")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 64, 64])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    found: dict[str, tuple[float, float]] = {}
    for method in ranges.METHODS:
        ticks: list[None] = []
        tick: Callable[[], None] = lambda: ticks.append(None)  # noqa: B023
        statistics = find_statistics(model, ["y"], ["y"], [{"x": values}, {"x": -values}], method, tick)  # type: ignore[arg-type]
        assert len(ticks) == ranges.runs(method, 2)  # type: ignore[arg-type]
        assert np.allclose(statistics.means["y"], 0, atol=1e-6)
        found[method] = statistics.ranges["y"]
    assert found["min-max"] == (-50, 50)
    for method in ("percentile", "entropy"):
        low, high = found[method]
        assert -low == high
        assert 2.5 < high < 12


def test_bias_takes_the_mean_error_back() -> None:
    model = _residual()
    layers, statistics = find_layers(model), _statistics(model)
    none = Statistics(statistics.ranges, {name: (0.0,) * len(mean) for name, mean in statistics.means.items()})
    feed = _feeds()[0]
    (expected,) = open_model(model, 1).run(None, feed)
    shifts = []
    for given_means in (statistics, none):
        (found,) = open_model(quantize_layers(model, layers, given_means, CPU["x86"]), 1, exact=True).run(None, feed)
        shifts.append(float(np.abs((found - expected).mean((0, 2, 3))).mean()))
    assert shifts[0] < 0.8 * shifts[1]


def _camera_graph(mean: list[float], deviation: float) -> onnx.ModelProto:
    """uint8 (1, 4, 4, 3) through the usual normalisation into a convolution and a ReLU."""
    rng = np.random.default_rng(0)
    values = {
        "mean": np.array(mean, np.float32).reshape(1, 3, 1, 1),
        "deviation": np.full((1, 3, 1, 1), deviation, np.float32),
        "weight": rng.normal(size=(8, 3, 3, 3)).astype(np.float32),
        "bias": np.zeros(8, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["wide"], "/Cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["wide"], ["planes"], "/Transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "mean"], ["centred"], "/Sub"),
        helper.make_node("Div", ["centred", "deviation"], ["pixels"], "/Div"),
        helper.make_node("Conv", ["pixels", "weight", "bias"], ["c"], "model.backbone.stem.0/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], "model.backbone/Relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 4, 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 4, 4])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_the_first_layer_reads_the_cameras_own_bytes() -> None:
    model = _camera_graph([127.0] * 3, 128.0)
    found = find_camera_input(model)
    assert found is not None
    assert (found.scale, found.zero) == (np.float32(1 / 128), 127)
    statistics = Statistics({"pixels": (-1.0, 1.0), "c": (-12.0, 12.0)}, {"pixels": (0.0, 0.0, 0.0)})
    small = quantize_layers(model, find_layers(model), statistics, CPU["vnni"])
    onnx.checker.check_model(small, full_check=True)
    assert not {"Cast", "Sub", "Div"} & {node.op_type for node in small.graph.node}
    image = np.random.default_rng(1).integers(0, 256, (1, 4, 4, 3)).astype(np.uint8)
    (exact,), (near,) = (open_model(graph, 1, exact=True).run(None, {"image": image}) for graph in (model, small))
    assert np.abs(exact).max() < 12
    # Half a step of the output; weights lose half a step each, and nothing is lost on the way in.
    assert np.abs(near - exact).max() < 0.5 * 24 / 255 + 27 * 0.5 * 3 / 127


@pytest.mark.parametrize(
    ("mean", "deviation"), [([127.0, 127.0, 126.0], 128.0), ([127.5] * 3, 128.0), ([300.0] * 3, 1.0)]
)
def test_a_normalisation_that_bytes_cannot_hold_is_left_alone(mean: list[float], deviation: float) -> None:
    assert find_camera_input(_camera_graph(mean, deviation)) is None


def test_a_whole_model_reads_bytes(mini: onnx.ModelProto) -> None:
    found = find_camera_input(mini)
    assert found is not None
    assert found.image == "image"
    assert found.zero == 127


def test_matrix_products_compute_in_int8_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product and its bias are one kernel; left to themselves, they become a Gemm, which stays in FP32."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(64, 64)).astype(np.float32), rng.normal(size=64).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["xw"], "model.pixel_decoder.layers.0.linear1/MatMul"),
            helper.make_node("Add", ["xw", "b"], ["y"], "model.pixel_decoder.layers.0.linear1/Add"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 16, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 64])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    small = quantize_layers(
        model, find_layers(model), Statistics({"x": (-4.0, 4.0), "xw": (-60.0, 60.0)}, {}), CPU["x86"]
    )
    seen: list[set[str]] = []
    made = ort.InferenceSession

    def opened(path: str, options: ort.SessionOptions, **others: object) -> ort.InferenceSession:
        options.optimized_model_filepath = str(tmp_path / "seen.onnx")
        session = made(path, options, **others)
        seen.append({node.op_type for node in onnx.load(tmp_path / "seen.onnx").graph.node})
        return session

    monkeypatch.setattr(ort, "InferenceSession", opened)
    x = rng.normal(size=(1, 16, 64)).astype(np.float32)
    near = open_model(small, 1).run(None, {"x": x})[0]
    assert any(operator.startswith("MatMulInteger") for operator in seen[0])
    assert "Gemm" not in seen[0]
    assert np.abs(near - (x @ weight + bias)).max() < 1
