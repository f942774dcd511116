"""The exported segmenter: the contract, what the file holds, and what may never win."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from support import exported
from support.exported import SIZE

from ovs_edge.bundle.errors import ParityError
from ovs_edge.export.graph import SegmenterGraph, bgr_input
from ovs_edge.export.onnx_writer import lint
from ovs_edge.export.parity_photos import photo_inputs
from ovs_edge.export.regions.values import region_spec
from ovs_edge.export.weights import store_fp16

DIM = 384


@pytest.fixture(scope="module")
def session() -> ort.InferenceSession:
    return exported.session(exported.mini_onnx())


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return photo_inputs(None, SIZE)


def run(session: ort.InferenceSession, image: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, confidence = session.run(["labels", "confidence"], {"image": image, "text_embeddings": vectors})
    return labels, confidence


def test_contract() -> None:
    graph = exported.mini_onnx().graph
    described = {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
    assert described == {
        "image": ("UINT8", [1, *SIZE, 3]),
        "text_embeddings": ("FLOAT", ["K", "S", DIM]),
        "labels": ("INT32", [1, *SIZE]),
        "confidence": ("FLOAT", [1, *SIZE]),
    }
    assert [node.op_type for node in graph.node if "image" in node.input] == ["Cast"]
    assert [(entry.domain, entry.version) for entry in exported.mini_onnx().opset_import] == [("", 18)]
    onnx.checker.check_model(exported.mini_onnx(), full_check=True)


def test_nodes_are_named_after_modules() -> None:
    names = [node.name for node in exported.mini_onnx().graph.node]
    assert len(set(names)) == len(names)
    for expected in (
        "model.backbone.stem.0/Conv",
        "model.pixel_decoder.layers.0.self_attn/GridSample",
        "model.query_decoder.layers.2.cross_attn/Softmax",
    ):
        assert expected in names


def test_nothing_of_this_machine_is_in_the_file() -> None:
    content = exported.mini_onnx().SerializeToString()
    for trace in (b"/site-packages/", b".py", b'File "', b"/home/", b"stack_trace"):
        assert trace not in content


def test_weights_are_the_checkpoints_own() -> None:
    state = exported.mini().state_dict()
    stored = {entry.name: numpy_helper.to_array(entry) for entry in exported.mini_onnx().graph.initializer}
    matrices = [name for name, value in state.items() if value.numel() >= 4096 and value.ndim >= 2]
    found = set()
    for name in matrices:
        value = state[name].numpy()
        for key, expected in ((f"model.{name}", value), (f"model.{name}.T", value.T)):
            if key in stored:
                np.testing.assert_array_equal(stored[key], expected)
                found.add(name)
    assert set(matrices) - found == {f"text_proj.{depth}.weight" for depth in range(3)}  # heads of other depths


def test_pixels_go_in_as_they_come_and_scores_lie_by_classes() -> None:
    """No pass over the pixels turns colours around, none over the scores turns axes around."""
    model = exported.mini_onnx()
    stored = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    stem = exported.mini().state_dict()["backbone.stem.0.weight"].numpy()
    np.testing.assert_array_equal(stored["model.backbone.stem.0.weight"], stem[:, ::-1])
    makers = {node.output[0]: node for node in model.graph.node}
    stem_node = next(node for node in model.graph.node if node.name == "model.backbone.stem.0/Conv")
    chain, name = [], stem_node.input[0]
    while name in makers:
        chain.append(makers[name].op_type)
        name = makers[name].input[0]
    assert (chain, name) == (["Div", "Sub", "Transpose", "Cast"], "image")
    label = next(node for node in model.graph.node if node.op_type == "ArgMax")
    resize = makers[label.input[0]]
    assert resize.op_type == "Resize"
    assert stored[resize.input[2]].tolist() == [1, 4, 4, 1]
    assert makers[resize.input[0]].op_type == "Reshape"


def test_vectors_of_regions_are_inside_the_graph(photos: list[np.ndarray]) -> None:
    """None is an output, and each has the value that torch computes."""
    model, spec = exported.mini(), region_spec(exported.mini(), exported.options(exported.mini().config))
    assert spec is not None
    assert spec.queries is not None
    opened = copy.deepcopy(exported.mini_onnx())
    for value in spec.values:
        opened.graph.output.append(onnx.helper.make_tensor_value_info(value.name, onnx.TensorProto.FLOAT, value.shape))
    names = exported.vectors(3, 1, DIM)
    vectors, masks = exported.session(opened).run(
        [value.name for value in spec.values], {"image": photos[0], "text_embeddings": names}
    )
    with torch.no_grad():
        pixels = torch.from_numpy(photos[0][..., ::-1].copy()).permute(0, 3, 1, 2).float()
        expected = model(pixels, torch.from_numpy(names))
    assert (vectors.shape, masks.shape) == tuple(value.shape for value in spec.values)
    np.testing.assert_allclose(vectors, expected.vectors[0].numpy(), atol=1e-3)
    assert np.mean(np.abs(masks - expected.mask_logits.numpy()) > 1e-2) < 0.01


def test_export_leaves_the_model_as_it_was() -> None:
    model = copy.deepcopy(exported.mini())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mean = model.pixel_mean.clone()
    graph = SegmenterGraph(model, "fast", 3, torch.int32)
    inputs = (torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8), torch.randn(3, 1, DIM))
    with torch.no_grad():
        expected = graph(*inputs)
        with bgr_input(graph):
            turned = graph(*inputs)
            assert not torch.equal(model.backbone.stem[0].weight, before["backbone.stem.0.weight"])
    for one, other in zip(expected, turned, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model.pixel_mean, mean)
    assert not graph.reads_bgr


def test_lint() -> None:
    model = copy.deepcopy(exported.mini_onnx())
    norms = sum(node.op_type == "LayerNormalization" for node in model.graph.node)
    lint(model, norms)
    with pytest.raises(ParityError, match="layer norms"):
        lint(model, norms + 1)
    sampler = next(node for node in model.graph.node if node.op_type == "GridSample")
    mode = next(attribute for attribute in sampler.attribute if attribute.name == "mode")
    for wrong in (b"nearest", b"linear"):
        mode.s = wrong
        with pytest.raises(ParityError, match=wrong.decode()):
            lint(model, norms)


def test_labels_are_lively(session: ort.InferenceSession, photos: list[np.ndarray]) -> None:
    """What the other tests stand on: photos of several labels, none of them everywhere."""
    counts = []
    for photo in photos:
        labels, confidence = run(session, photo, exported.vectors(37, 2, DIM))
        shares = np.bincount(labels.ravel()) / labels.size
        counts.append(int((shares > 0.01).sum()))
        assert shares.max() < 0.97
        assert confidence.min() >= 0
        assert confidence.max() <= 1
        assert confidence.std() > 0.001
    assert np.mean(counts) >= 3


@settings(max_examples=40, deadline=None)
@given(
    classes=st.integers(1, 12), names=st.integers(1, 4), padding=st.integers(0, 20), photo=st.integers(0, 3),
    seed=st.integers(0, 2**31), data=st.data(),
)  # fmt: skip
def test_zero_rows(
    session: ort.InferenceSession,
    photos: list[np.ndarray],
    classes: int,
    names: int,
    padding: int,
    photo: int,
    seed: int,
    data: st.DataObject,
) -> None:
    vectors = exported.vectors(classes, names, DIM, seed)
    labels, confidence = run(session, photos[photo], vectors)
    # Padding at the end changes nothing.
    padded, padded_confidence = run(session, photos[photo], np.pad(vectors, ((0, padding), (0, 0), (0, 0))))
    np.testing.assert_array_equal(padded, labels)
    np.testing.assert_allclose(padded_confidence, confidence, atol=1e-5)
    # A class that loses all of its names never wins, wherever it stands; the others keep their order.
    gone = data.draw(st.sets(st.integers(0, classes - 1), max_size=classes - 1))
    vectors[sorted(gone)] = 0
    labels, confidence = run(session, photos[photo], vectors)
    assert not gone & set(np.unique(labels).tolist())
    kept = sorted(set(range(classes)) - gone)
    alone, _ = run(session, photos[photo], vectors[kept])
    assert (np.array(kept)[alone] == labels).mean() >= 0.999
    # Names that are zero rows do not count either.
    more, _ = run(session, photos[photo], np.pad(vectors, ((0, 0), (0, padding % 5), (0, 0))))
    assert (more == labels).mean() >= 0.999


def test_ties_of_nothing_go_to_a_named_class(session: ort.InferenceSession, photos: list[np.ndarray]) -> None:
    """The only named class points away from every query, so that its score underflows to the padding's own 0."""
    away = -exported.mini().no_object.detach().numpy()[None]
    for place in (0, 3, 6):
        vectors = np.zeros((7, 2, DIM), np.float32)
        vectors[place, 1] = away
        labels, confidence = run(session, photos[0], vectors)
        assert (labels == place).all()
        assert (confidence >= 0).all()


def test_no_class_at_all_has_no_confidence(session: ort.InferenceSession, photos: list[np.ndarray]) -> None:
    _, confidence = run(session, photos[0], np.zeros((3, 2, DIM), np.float32))
    assert (confidence == 0).all()


def test_length_of_a_vector_does_not_matter(session: ort.InferenceSession, photos: list[np.ndarray]) -> None:
    vectors = exported.vectors(5, 3, DIM)
    lengths = np.random.default_rng(1).uniform(0.01, 100, (5, 3, 1)).astype(np.float32)
    labels, confidence = run(session, photos[0], vectors)
    scaled, scaled_confidence = run(session, photos[0], vectors * lengths)
    assert (labels == scaled).mean() >= 0.999
    np.testing.assert_allclose(confidence, scaled_confidence, atol=1e-4)


def test_halved_weights_compute_the_very_same(photos: list[np.ndarray]) -> None:
    whole = exported.mini_onnx()
    half = copy.deepcopy(whole)
    saved = store_fp16(half)
    assert saved > 0.45 * whole.ByteSize()
    assert half.ByteSize() < 0.56 * whole.ByteSize()
    vectors = exported.vectors(9, 2, DIM)
    for photo in photos:
        first = run(exported.session(whole), photo, vectors)
        second = run(exported.session(half), photo, vectors)
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])


def test_halving_leaves_what_would_change() -> None:
    values = {"exact": np.full((64, 64), 0.5, np.float32), "inexact": np.full((64, 64), 0.1, np.float32),
              "large": np.full((64, 64), 1e6, np.float32), "small": np.full(3, 0.5, np.float32)}  # fmt: skip
    helper = onnx.helper
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in values]
    outputs = [helper.make_tensor_value_info(f"{name}_out", onnx.TensorProto.FLOAT, None) for name in values]
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", [], outputs, initializers), ir_version=8)
    store_fp16(model)
    kept = {entry.name for entry in model.graph.initializer}
    assert kept == {"exact.half", "inexact", "large", "small"}
    for found, value in zip(exported.session(model).run(None, {}), values.values(), strict=True):
        np.testing.assert_array_equal(found, value)
