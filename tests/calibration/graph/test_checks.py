"""A graph that does not fit its manifest is refused before any work, in one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from support import conv_bundle

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import BundleError
from ovs_edge.bundle.manifest import TensorSpec
from ovs_edge.calibration.graph.checks import check_graph


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small one, read only."""
    return Bundle.open(conv_bundle.build(tmp_path_factory.mktemp("conv") / "conv.ovs"))


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name


def _spoil(model: onnx.ModelProto, number: float) -> None:
    tensor = next(entry for entry in model.graph.initializer if entry.data_type == TensorProto.FLOAT)
    tensor.CopyFrom(numpy_helper.from_array(np.full(list(tensor.dims), number, np.float32), tensor.name))


def _elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def _unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "Frobnicate"


def _reversed(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def test_a_graph_that_fits(bundle: Bundle) -> None:
    check_graph(bundle.graph("fp32"), bundle.manifest)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda model: _rename(model, "image", "picture"),
            "has the inputs picture, text_embeddings, its manifest image",
        ),
        (lambda model: _rename(model, "labels", "classes"), "has the outputs classes, confidence, its manifest"),
        (lambda model: _spoil(model, np.nan), "holds NaN or infinite values"),
        (lambda model: _spoil(model, np.inf), "holds NaN or infinite values"),
        (_elsewhere, "lies in another file"),
        (_unknown_operator, "no valid ONNX graph .*Frobnicate"),
        (_reversed, "no valid ONNX graph"),
    ],
    ids=["input", "output", "nan", "inf", "external", "operator", "order"],
)
def test_graphs_that_do_not_fit(
    bundle: Bundle, tmp_path: Path, change: Callable[[onnx.ModelProto], None], says: str
) -> None:
    model = onnx.load(str(bundle.graph("fp32")))
    change(model)
    path = tmp_path / "segmenter.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=says):
        check_graph(path, bundle.manifest)


@pytest.mark.parametrize("data", [b"noise" * 100, b""], ids=["noise", "empty"])
def test_a_file_that_is_no_graph(bundle: Bundle, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "segmenter.onnx").write_bytes(data)
    with pytest.raises(BundleError):
        check_graph(tmp_path / "segmenter.onnx", bundle.manifest)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((1, 2**20, 2**20, 3), "1048576x1048576 pixels"),
        ((1, 0, 64, 3), "64x0 pixels"),
        ((1, 32, 32, 3), "differs in type or size"),
    ],
)
def test_sizes_that_do_not_fit(bundle: Bundle, shape: tuple[int, ...], says: str) -> None:
    image, text = bundle.manifest.graph.inputs
    graph = dataclasses.replace(bundle.manifest.graph, inputs=(TensorSpec(image.name, image.dtype, shape), text))
    with pytest.raises(BundleError, match=says):
        check_graph(bundle.graph("fp32"), dataclasses.replace(bundle.manifest, graph=graph))
