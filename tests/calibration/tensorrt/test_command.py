"""The command `ovs-build` on a GPU that is not there: what it keeps, what it finds again, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
from support import fake_gpu
from support import tiny_bundle as tiny_bundle_module
from support.plans import fake_builder, target

from ovs_edge.bundle.bundle import Bundle, sha256
from ovs_edge.bundle.errors import MissingExtraError, ParityError, PlanError, SourceError, UsageError
from ovs_edge.calibration import build_cli
from ovs_edge.calibration.tensorrt import make_plan as build_plan
from ovs_edge.calibration.tensorrt import photos as build_pictures
from ovs_edge.runtime.engines.plan import ENGINE, LAYERS, SIDECAR, Plan, cached, fitting
from ovs_edge.runtime.engines.tensorrt import TensorRTSession
from ovs_edge.runtime.engines.tensorrt_api import MSDA_PLUGIN
from ovs_edge.runtime.segmenter import Segmenter

COMMAND = [sys.executable, "-m", "ovs_edge.calibration.build_cli"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> fake_gpu.TensorRT:
    trt = fake_gpu.install(monkeypatch)
    fake_builder(monkeypatch, trt, tiny_bundle / "segmenter.onnx")
    return trt


def _build(*arguments: object) -> None:
    build_cli.app([*map(str, arguments)], standalone_mode=False)


def test_a_plan_is_built_compared_kept_and_run(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "builds.json"
    arguments = (tiny_bundle, "--precision", "fp32", "--profiles", "4x2,16x48")
    _build(*arguments, "--report", report)
    told = capsys.readouterr()
    assert "there is no plan of tiny in fp32" in told.err
    assert "passed; run it with: ovs-run" in told.err
    assert "4x2" in told.out
    assert "100.0000%" in told.out
    (plan,) = cached(Bundle.open(tiny_bundle), "fp32")
    assert plan.compared
    assert plan.sidecar.parity["rows"][-1]["classes"] == 16
    _build(*arguments, "--inspect", "--report", report)
    told = capsys.readouterr()
    assert "is up to date" in told.err
    assert "conv" in told.out
    assert "2.000" in told.out
    assert len(json.loads(report.read_text())["builds"]) == 1
    with Segmenter.load(tiny_bundle, provider="tensorrt") as segmenter:
        segmenter.set_classes("red,sky")
        image = np.zeros((48, 64, 3), np.uint8)
        image[..., 2] = 255
        assert (segmenter.predict(image).labels == 0).all()
    assert gpu.driver.memory == {}
    assert gpu.driver.alive == set()


def test_a_formulation_that_computes_something_else_is_not_published(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tiny.plan"
    arguments = (tiny_bundle, "--precision", "fp32", "--profiles", "4x2", "-o", output)
    gpu.bad = {"gridsample", "gather"}
    with pytest.raises(ParityError, match="the plan differs from ONNX Runtime"):
        _build(*arguments)
    assert list(tmp_path.iterdir()) == []
    gpu.bad = {"gridsample"}
    _build(*arguments)
    assert "fp32, gridsample: the plan differs" in capsys.readouterr().err
    plan = Plan.open(output)
    assert plan.sidecar.formulation == "gather"
    assert sorted(os.listdir(output)) == [ENGINE, LAYERS, SIDECAR]
    assert sha256(output / ENGINE) == plan.sidecar.engine_sha256
    assert list(cached(Bundle.open(tiny_bundle), "fp32")) == []


def test_a_new_tensorrt_rebuilds_with_one_line(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (tiny_bundle, "--precision", "fp32", "--profiles", "4x2")
    _build(*arguments)
    monkeypatch.setattr(type(gpu), "__version__", "10.7.0")
    capsys.readouterr()
    _build(*arguments)
    line = "is stale: it was built by tensorrt 10.3.0, here is tensorrt 10.7.0"
    assert capsys.readouterr().err.count(line) == 1
    # What nothing here can load any more is gone.
    assert [plan.sidecar.target for plan in cached(Bundle.open(tiny_bundle), "fp32")] == [target(version="10.7.0")]


def test_auto_keeps_one_and_finds_it_again(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "tiny.ovs"))
    raw = json.loads((folder / "manifest.json").read_text())
    raw["precisions"] |= {"fp16": "segmenter.onnx", "int8": "segmenter.onnx"}
    raw["verdicts"] = {"int8": {"photos": 1, "agreement": 0.5, "worst": 0.5, "bar": 0.97, "confidence_shift": 0.1,
                                "finite": True, "classes": {}}}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(raw))
    _build(folder, "--profiles", "4x2")
    told = capsys.readouterr().err
    assert [f"{one.engine.parent.name}" for one in gpu.built] == [
        "fp32-gridsample", "fp32-gather", "fp16-gridsample", "fp16-gather"
    ]  # fmt: skip
    assert told.count("passes, ") == 4
    assert "int8" not in told
    (plan,) = (plan for name in ("fp32", "fp16") for plan in cached(Bundle.open(folder), name))
    assert plan.sidecar.chosen_from == ("fp32 gridsample", "fp32 gather", "fp16 gridsample", "fp16 gather")
    # The same choice is not made twice; another one is.
    _build(folder, "--profiles", "4x2")
    told = capsys.readouterr().err
    assert len(gpu.built) == 4
    assert f"is up to date, {plan.sidecar.precision} of the last choice" in told
    _build(folder, "--profiles", "4x2", "--msda", "gather")
    assert len(gpu.built) == 6
    assert "nothing was chosen yet" in capsys.readouterr().err
    # A plan whose precision was named is no choice.
    _build(folder, "--profiles", "8x2", "--precision", "fp32")
    _build(folder, "--profiles", "8x2")
    assert len(gpu.built) == 11


def test_the_plugin_is_tried_where_tensorrt_has_it(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (tiny_bundle, "--precision", "fp32", "--profiles", "4x2")
    with pytest.raises(UsageError, match="this TensorRT has no MultiscaleDeformableAttnPlugin_TRT"):
        _build(*arguments, "--msda", "plugin")
    gpu.creators = [SimpleNamespace(name=MSDA_PLUGIN, plugin_version=version) for version in "12"]
    versions = []
    monkeypatch.setattr(build_plan, "replace_with_plugin", lambda model, version: versions.append(version) or model)
    gpu.bad = {"gridsample", "gather"}
    _build(*arguments)
    assert [(one.engine.parent.name, one.plugins) for one in gpu.built] == [
        ("fp32-gridsample", False), ("fp32-gather", False), ("fp32-plugin", True)
    ]  # fmt: skip
    assert versions == ["2"]
    plan = fitting(Bundle.open(tiny_bundle), "fp32", target())
    assert plan.sidecar.formulation == "plugin"
    # A plan of it needs the library again.
    gpu.creators, gpu.loaded = [], []
    with pytest.raises(
        PlanError, match="needs MultiscaleDeformableAttnPlugin_TRT, which tensorrt 10.3.0 here does not have"
    ):
        TensorRTSession(plan)
    assert gpu.loaded == []
    assert gpu.driver.alive == set()


def test_a_damaged_plan_is_built_again_with_one_line(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (tiny_bundle, "--precision", "fp32", "--profiles", "4x2")
    _build(*arguments)
    (plan,) = cached(Bundle.open(tiny_bundle), "fp32")
    whole = (plan.path / ENGINE).read_bytes()
    for harm, says in ((whole[:-1], "it is cut short"), (b"x" + whole[1:], "was altered"), (None, "cannot read")):
        (plan.path / ENGINE).unlink()
        if harm is not None:
            (plan.path / ENGINE).write_bytes(harm)
        with pytest.raises(PlanError, match=f"the plan of tiny in fp32 is damaged: .*{says}"):
            fitting(Bundle.open(tiny_bundle), "fp32", target())
        capsys.readouterr()
        _build(*arguments)
        (line,) = (line for line in capsys.readouterr().err.splitlines() if "is damaged" in line)
        assert says in line
        assert line.endswith("; building")
        assert fitting(Bundle.open(tiny_bundle), "fp32", target()).path == plan.path
    assert len(gpu.built) == 4


def test_what_is_asked_for_explicitly_is_compared(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "grey.png"
    picture.write_bytes(cv2.imencode(".png", np.full((8, 8, 3), 99, np.uint8))[1].tobytes())
    plain = (tiny_bundle, "--precision", "fp32", "--profiles", "4x2")
    _build(*plain)
    for asked, says in (
        (("--msda", "gather", "--level", 5), "it samples by gridsample, not by gather; it was built at level 3, not 5"),
        (("--workspace", 64), "it was built with another --workspace"),
        (("--images", picture), "it was compared on other pictures"),
        (("--profiles", "8x2"), "holds 4x2, asked for is 8x2"),
    ):
        before = len(gpu.built)
        capsys.readouterr()
        _build(*plain, *asked)
        assert len(gpu.built) == before + 1
        assert says in capsys.readouterr().err
        _build(*plain, *asked)
        assert len(gpu.built) == before + 1
        assert "is up to date" in capsys.readouterr().err
    # What is not asked for may be as it is; and what was found again is what ovs-run takes.
    newest = fitting(Bundle.open(tiny_bundle), "fp32", target())
    assert str(newest.sidecar.profiles[0]) == "8x2"
    _build(*plain)
    assert len(gpu.built) == 5
    assert "is up to date" in capsys.readouterr().err
    plan = fitting(Bundle.open(tiny_bundle), "fp32", target())
    assert str(plan.sidecar.profiles[0]) == "4x2"
    assert plan.sidecar.parity["source"] == str(picture)


def test_pictures_are_read_before_anything_is_built(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    arguments = (tiny_bundle, "--precision", "fp32", "--profiles", "4x2")
    with pytest.raises(SourceError):
        _build(*arguments, "--images", tmp_path / "nowhere")
    assert gpu.built == []

    def lacks() -> Path:
        raise MissingExtraError("scikit-image is not installed")

    monkeypatch.setattr(build_pictures, "photo_folder", lacks)
    _build(*arguments)
    told = capsys.readouterr()
    assert told.err.count("comparing on generated images") == 1
    assert "4 images (generated)" in told.out
    (plan,) = cached(Bundle.open(tiny_bundle), "fp32")
    assert plan.sidecar.parity["source"] == "generated"
    assert plan.sidecar.parity["pictures"] == 4


def test_generated_pictures_are_always_the_same() -> None:
    for size in ((48, 64), (7, 300), (1, 1)):
        first = build_pictures.smooth_picture(size, 0)
        assert first.shape == (1, *size, 3)
        assert first.dtype == np.uint8
        assert (first == build_pictures.smooth_picture(size, 0)).all()
    picture = build_pictures.smooth_picture((48, 64), 0).astype(int)
    assert picture.min() == 0
    assert picture.max() == 255
    steps = np.abs(np.diff(picture, axis=2))
    assert (picture != build_pictures.smooth_picture((48, 64), 1)).mean() > 0.9
    assert steps.mean() < 25


def test_what_the_build_warns_of_is_told(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu.warnings = ["cannot keep the timings in [somewhere]"]
    _build(tiny_bundle, "--precision", "fp32", "--profiles", "4x2")
    assert "cannot keep the timings in [somewhere]\n" in capsys.readouterr().err
    assert len(list(cached(Bundle.open(tiny_bundle), "fp32"))) == 1


def test_a_panoptic_plan_is_held_to_its_masks_and_classes(
    gpu: fake_gpu.TensorRT, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny_bundle_module.build(tmp_path / "panoptic.ovs", panoptic=True)
    fake_builder(monkeypatch, gpu, bundle / "segmenter.onnx")
    _build(bundle, "--precision", "fp32", "--profiles", "4x2")
    assert " masks " in capsys.readouterr().out
    (plan,) = cached(Bundle.open(bundle), "fp32")
    assert [row["masks_apart"] for row in plan.sidecar.parity["rows"]] == pytest.approx([0, 0], abs=1e-6)
    assert plan.sidecar.parity["queries_bar"] == 0.003
    wrong = tmp_path / "wrong.onnx"
    model = onnx.load(str(bundle / "segmenter.onnx"))
    node = next(node for node in model.graph.node if node.output[0] == "mask_logits")
    node.op_type = "Sub"
    onnx.save(model, str(wrong))
    fake_builder(monkeypatch, gpu, wrong)
    with pytest.raises(ParityError, match=r"the queries' masks are 0\.\d+ apart, expected at most 0\.003"):
        _build(bundle, "--precision", "fp32", "--profiles", "4x2", "--rebuild")


def test_a_plan_that_is_there_is_inspected_without_building(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tiny.plan"
    arguments = (tiny_bundle, "--precision", "fp32", "--profiles", "4x2")
    _build(*arguments)
    _build(*arguments, "-o", output)
    capsys.readouterr()
    _build(output, "--inspect")
    told = capsys.readouterr()
    assert "tiny in fp32, gridsample, level 3, built for tensorrt 10.3.0, Fake Orin" in told.err
    # What the network says, what the engine says, and the slowest.
    assert "backbone/Conv │ CONVOLUTION │ int8" in told.out
    assert "bare" in told.out
    assert "2.000" in told.out
    with pytest.raises(UsageError, match="is a plan; --inspect prints it"):
        _build(output)
    gpu.driver.fails = {"init"}
    for asked in ((output,), arguments):
        _build(*asked, "--inspect")
        told = capsys.readouterr()
        assert "nothing can be run or compared here" in told.err
        assert "backbone/Conv │ CONVOLUTION │ int8" in told.out
        assert "2.000" not in told.out
    assert len(gpu.built) == 2
    (output / LAYERS).write_text('[{"name": 1}]')
    with pytest.raises(PlanError, match=r"layers.json: layers: missing entries .*build the plan again"):
        _build(output, "--inspect")
    (output / LAYERS).unlink()
    with pytest.raises(PlanError, match=r"cannot read the layers in .*build the plan again"):
        _build(output, "--inspect")


def test_faults_are_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for arguments, says in (
        (["--precision", "fp16"], "has no precision 'fp16'"),
        (["--profiles", "8"], "expected CLASSESxNAMES"),
        (["--engine", "tensorrt"], "no TensorRT here"),
        (["--precision", "fp32", "--engine", "tensorrt_rtx", "-o", str(tmp_path / "mine")], "is not a plan"),
    ):
        ran = subprocess.run([*COMMAND, str(tiny_bundle), *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode == 2
        assert "Traceback" not in ran.stderr
        assert says in ran.stderr.splitlines()[-1]


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and so does all that it starts; a handler ends that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    from ovs_edge.models import default_bundle

    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    output, scratch = tmp_path / "out" / "a.plan", tmp_path / "scratch"
    scratch.mkdir()
    command = [*COMMAND, str(default_bundle()), "--precision", "fp32", "-o", str(output)]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("building"):
                break
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()  # to its end: the child, which holds it as well, is gone
        assert process.wait(30) == 130
        assert "Traceback" not in rest
    assert list(scratch.iterdir()) == []
    assert not output.parent.exists()
