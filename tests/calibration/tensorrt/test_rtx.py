"""TensorRT-RTX parses and builds what we write, with no GPU: types as stated, sampling linear, INT8 where it is said.

It shares parser, type rules and network API with TensorRT. What it cannot do here is run what it builds.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import version_converter
from support import exported

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.calibration.graph.constant_folding import fold_constants
from ovs_edge.calibration.graph.gather_sampling import replace_grid_samples
from ovs_edge.calibration.graph.layers import find_layers
from ovs_edge.calibration.quantize.calibrate import CalibrationOptions, calibrate
from ovs_edge.calibration.quantize.fp16 import convert_to_fp16
from ovs_edge.calibration.quantize.qdq import TENSORRT, convolution_inputs, observed_tensors, quantize_layers
from ovs_edge.calibration.quantize.ranges import find_statistics
from ovs_edge.calibration.quantize.sensitivity_plot import REPORT
from ovs_edge.calibration.tensorrt.builder import BuildRequest, BuiltEngine, build
from ovs_edge.calibration.tensorrt.network import EngineLayer, computes_in, stated_types
from ovs_edge.export.bundle_writer import export_segmenter
from ovs_edge.export.options import ExportRequest, resolve
from ovs_edge.export.parity_photos import photo_inputs
from ovs_edge.models import default_bundle
from ovs_edge.runtime.capture.demo import photo_folder
from ovs_edge.runtime.engines.plan import Plan, Profile, Target
from ovs_edge.runtime.engines.tensorrt_api import load
from ovs_edge.segmenter.config import preset
from ovs_edge.segmenter.model import SegmenterModel

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

_MOST = Profile(512, 8)  # one size only: each costs a build
_FORMULATIONS = ("gridsample", "gather")


def _file(folder: Path, name: str, formulation: str, model: onnx.ModelProto) -> Path:
    path = folder / f"{name}.{formulation}.onnx"
    onnx.save(replace_grid_samples(model) if formulation == "gather" else model, str(path))
    return path


@functools.cache
def _mini() -> onnx.ModelProto:
    return fold_constants(exported.mini_file())


@functools.cache
def _embedded() -> onnx.ModelProto:
    return fold_constants(default_bundle() / "segmenter.onnx")


@functools.cache
def _mini_fp16() -> onnx.ModelProto:
    return convert_to_fp16(_mini())


@functools.cache
def _mini_int8() -> tuple[onnx.ModelProto, frozenset[str]]:
    """Every layer that may be INT8, and their names; ranges of one photo."""
    base = _mini()
    layers = find_layers(base)
    vectors = np.random.default_rng(0).standard_normal((8, 1, 384)).astype(np.float32)
    feeds = [{"image": photo_inputs(None, exported.SIZE)[0], "text_embeddings": vectors}]
    found = find_statistics(
        base, observed_tensors(base, layers), convolution_inputs(base, layers), feeds, "min-max", lambda: None
    )
    model = convert_to_fp16(quantize_layers(version_converter.convert_version(base, 19), layers, found, TENSORRT))
    return model, frozenset(layer.node for layer in layers)


@functools.cache
def _calibrated() -> tuple[Path, frozenset[str], frozenset[str]]:
    """The INT8 file that ovs-calibrate writes, and the layers of the groups that its report quantises and leaves out."""
    folder = exported.folder() / "calibrated.ovs"
    # Few pictures and a low bar: what is chosen matters little here, but that something is left out, and not by name alone.
    options = CalibrationOptions(
        str(photo_folder()), ("int8",), {"int8": 0.9}, "min-max", pictures=6, without=frozenset({"heads"})
    )
    calibrate(Bundle.open(default_bundle()), folder, options, lambda what, done, total: None)
    report = json.loads((folder / REPORT).read_text())["precisions"]["int8"]
    fate = {group["name"]: group["quantised"] for group in report["groups"]}
    layers = find_layers(_embedded())
    assert set(fate) == {layer.group for layer in layers}
    assert not fate["heads"]
    named = frozenset(layer.node for layer in layers if fate[layer.group])
    path = Bundle.open(folder, force=True).graph("int8")
    return path, named, frozenset(layer.node for layer in layers) - named


@functools.cache
def _r50_fp16() -> onnx.ModelProto:
    """The R50 with one layer of each decoder, small: the operators and widths are those of the whole."""
    config = preset("gkc_r50")
    config = dataclasses.replace(config, pixel_decoder=dataclasses.replace(config.pixel_decoder, layers=1))
    torch.manual_seed(0)
    model = export_segmenter(
        SegmenterModel(config).eval(), resolve(config, ExportRequest(size=(64, 64), decoder_layers=1))
    )
    path = exported.folder() / "r50.onnx"
    onnx.save(model, str(path))
    return convert_to_fp16(fold_constants(path))


def _built(path: Path, dim: int) -> BuiltEngine:
    request = BuildRequest(path, path.with_suffix(".engine"), "tensorrt_rtx", (_MOST,), dim, 0, None, None)
    built = build(request, lambda phase, done, of: True)
    assert request.engine.stat().st_size == built.size > 2**20
    return built


def _products(layers: tuple[EngineLayer, ...]) -> dict[str, set[str]]:
    """kind -> types, of what multiplies weights or features."""
    kinds = ("CONVOLUTION", "MATRIX_MULTIPLY")
    return {kind: {layer.types[0] for layer in layers if layer.kind == kind} for kind in kinds}


def _check(built: BuiltEngine, path: Path, formulation: str | None) -> None:
    """`formulation` None: a model without attention, which samples nothing and has no layer norm."""
    samplings = [layer for layer in built.layers if layer.linear is not None]
    assert all(layer.linear for layer in samplings)
    assert bool(samplings) == (formulation == "gridsample")
    # `build` refuses a layer of another type than the file's; that it looked at most of them is checked here.
    stated = stated_types(path)
    assert len({name for layer in built.layers for name in layer.tensors} & set(stated)) > 0.5 * len(
        {name for name, kind in stated.items() if kind == "float16"}
    )
    named = Counter(layer.kind for layer in built.layers)
    assert bool(named["NORMALIZATION"]) == (formulation is not None)  # layer norms stay whole


@pytest.mark.parametrize("formulation", _FORMULATIONS)
def test_a_model_with_queries_builds_in_fp16(tmp_path: Path, formulation: str) -> None:
    path = _file(tmp_path, "fp16", formulation, _mini_fp16())
    built = _built(path, 384)
    _check(built, path, formulation)
    assert _products(built.layers) == {"CONVOLUTION": {"float16"}, "MATRIX_MULTIPLY": {"float16", "float32"}}
    assert {layer.types[0] for layer in built.layers if layer.kind in ("NORMALIZATION", "SOFTMAX", "GRID_SAMPLE")} == {
        "float32"
    }


@pytest.mark.parametrize("formulation", _FORMULATIONS)
def test_int8_layers_are_those_that_are_named(tmp_path: Path, formulation: str) -> None:
    model, named = _mini_int8()
    path = _file(tmp_path, "int8", formulation, model)
    built = _built(path, 384)
    _check(built, path, formulation)
    assert len(named) > 50
    assert {layer.name for layer in built.layers if layer.quantised} == named


def test_the_default_bundle_builds_in_fp16(tmp_path: Path) -> None:
    path = _file(tmp_path, "embedded", "gridsample", convert_to_fp16(_embedded()))
    built = _built(path, 384)
    _check(built, path, None)
    assert _products(built.layers)["CONVOLUTION"] == {"float16"}


@pytest.mark.slow
def test_int8_is_where_the_calibration_report_says_and_nowhere_else(tmp_path: Path) -> None:
    file, named, left_out = _calibrated()
    path = _file(tmp_path, "calibrated", "gridsample", onnx.load(file))
    built = _built(path, 384)
    _check(built, path, None)
    assert len(named) > 20
    assert len(left_out) > 1
    assert {layer.name for layer in built.layers if layer.quantised} == named
    # No engine tells its layers without a GPU; the strongly typed network says what each is computed in.
    assert {layer.name: computes_in(layer) for layer in built.layers if layer.name in left_out} == dict.fromkeys(
        left_out, "float16"
    )


@pytest.mark.slow
@pytest.mark.parametrize("formulation", _FORMULATIONS)
def test_the_r50_shape_builds_in_fp16(tmp_path: Path, formulation: str) -> None:
    path = _file(tmp_path, "r50", formulation, _r50_fp16())
    built = _built(path, preset("gkc_r50").text.dim)
    _check(built, path, formulation)
    assert _products(built.layers)["CONVOLUTION"] == {"float16"}


def test_both_formulations_give_the_same_labels() -> None:
    """On the default bundle in FP32, in ONNX Runtime: only sums are rounded otherwise."""
    base = _mini()
    vectors = np.random.default_rng(0).standard_normal((13, 2, 384)).astype(np.float32)
    feeds = {"image": photo_inputs(None, exported.SIZE)[0], "text_embeddings": vectors}
    found = [
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)
        for model in (base, replace_grid_samples(base))
    ]
    assert (found[0][0] == found[1][0]).mean() > 0.9999
    assert np.abs(found[0][1] - found[1][1]).max() < 1e-4


def test_the_command_builds_where_there_is_no_gpu(tiny_bundle: Path, tmp_path: Path) -> None:
    output, report = tmp_path / "tiny.plan", tmp_path / "builds.json"
    command = [sys.executable, "-W", "error", "-m", "ovs_edge.calibration.build_cli", str(tiny_bundle), "--inspect"]
    command += ["--precision", "fp32", "--engine", "tensorrt_rtx", "-o", str(output), "--report", str(report)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if "nothing can be run or compared here" not in ran.stderr:
        pytest.skip("there is a GPU here")
    assert ran.returncode == 0
    assert "not compared with anything" in ran.stderr
    assert "MATRIX_MULTIPLY" in ran.stdout
    plan = Plan.open(output)
    assert not plan.compared
    assert plan.sidecar.target.gpu is None
    trt = load("tensorrt_rtx")
    assert len(plan.engine(Target.here(trt.module, trt.version, "any RTX card", "8.9"))) == plan.sidecar.engine_bytes
    (row,) = json.loads(report.read_text())["builds"]
    # The plan that is there is looked at without a GPU, and without building: layer by layer.
    looked = subprocess.run([*command[:5], str(output), "--inspect"], capture_output=True, text=True, check=False)
    assert looked.returncode == 0
    assert "in fp32, gridsample, level 3, built for tensorrt_rtx" in looked.stderr
    assert "node_of_cosine" in looked.stdout
    assert "building" not in looked.stderr
    assert row["engine_bytes"] == plan.sidecar.engine_bytes
    assert row["profiles"] == ["8x64", "32x64", "128x64", "500x32"]
