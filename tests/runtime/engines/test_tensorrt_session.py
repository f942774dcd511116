"""The TensorRT session on a GPU that is not there: padding, bindings, memory, errors. A real GPU has not seen it."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from support import fake_gpu, tiny_bundle
from support.plans import make_plan

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import MissingExtraError, PlanError, UsageError
from ovs_edge.runtime.engines.cuda import find_gpu
from ovs_edge.runtime.engines.engine import EngineOptions
from ovs_edge.runtime.engines.onnx_runtime import OnnxSession
from ovs_edge.runtime.engines.plan import Plan
from ovs_edge.runtime.engines.tensorrt import TensorRTSession
from ovs_edge.runtime.segmenter import Segmenter

SHAPE = (1, tiny_bundle.HEIGHT, tiny_bundle.WIDTH, 3)

CPU = EngineOptions(threads=1, provider="cpu")


def _image(seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def _vectors(classes: int, names: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(classes).standard_normal((classes, names, 3)).astype(np.float32)


@pytest.fixture(params=[False, True], ids=["discrete", "integrated"])
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> fake_gpu.TensorRT:
    return fake_gpu.install(monkeypatch, integrated=request.param)


@pytest.fixture
def plan(tiny_bundle: Path, tmp_path: Path) -> Plan:
    return make_plan(Bundle.open(tiny_bundle), tmp_path / "tiny.plan")


def test_labels_are_those_of_onnx_runtime_at_any_number_of_classes(
    trt: fake_gpu.TensorRT, plan: Plan, tiny_bundle: Path
) -> None:
    with TensorRTSession(plan) as session, OnnxSession(Bundle.open(tiny_bundle), CPU) as reference:
        for classes, names in ((1, 1), (4, 2), (5, 2), (3, 5), (16, 5), (1, 1)):
            image, vectors = _image(classes), _vectors(classes, names)
            labels, confidence = session.run(image, vectors)
            expected_labels, expected_confidence = reference.run(image, vectors)
            assert labels.dtype == np.int32 and (labels == expected_labels).all()
            np.testing.assert_allclose(confidence, expected_confidence, atol=1e-6)
    # 4x2, then 16x5: the smaller one is used wherever it holds the vectors.
    assert trt.profile_changes == [0, 1, 0]
    assert trt.driver.memory == {} and trt.driver.alive == set() and trt.driver.current == []


def test_text_travels_when_it_changes_and_results_stay(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_gpu.install(monkeypatch)
    vectors = _vectors(3, 1)
    with TensorRTSession(plan) as session:
        first, _ = session.run(_image(0), vectors)
        kept = first.copy()
        session.run(_image(1), vectors)
        session.run(_image(2), vectors.copy())
    assert (first == kept).all()
    image, text = int(np.prod(SHAPE)), 4 * 2 * 3 * 4
    assert trt.driver.uploads == [text, image, image, text, image]


def test_smaller_vocabulary_leaves_nothing_of_the_larger(trt: fake_gpu.TensorRT, plan: Plan) -> None:
    red = np.zeros(SHAPE, np.uint8)
    red[..., 2] = 255
    with TensorRTSession(plan) as session:
        both = np.array([[[1, 0, 0]], [[0, 0, 1]]], np.float32)
        assert (session.run(red, both)[0] == 1).all()
        labels, _ = session.run(red, both[:1].copy())
        assert (labels == 0).all()


def test_panoptic_columns_come_without_the_padding(trt: fake_gpu.TensorRT, tmp_path: Path) -> None:
    bundle = Bundle.open(tiny_bundle.build(tmp_path / "panoptic.ovs", panoptic=True))
    image, vectors = _image(), _vectors(3, 2)
    with (
        TensorRTSession(make_plan(bundle, tmp_path / "panoptic.plan")) as session,
        OnnxSession(bundle, CPU) as reference,
    ):
        found, expected = session.run_raw(image, vectors), reference.run_raw(image, vectors)
    assert found.class_logits.shape == (1, 6, 4)
    np.testing.assert_allclose(found.class_logits, expected.class_logits, atol=1e-6)
    np.testing.assert_allclose(found.mask_logits, expected.mask_logits, atol=1e-6)
    assert (found.labels == expected.labels).all()


def test_other_threads_may_run_it(trt: fake_gpu.TensorRT, plan: Plan) -> None:
    results = []
    with TensorRTSession(plan) as session:
        for seed in range(3):
            thread = threading.Thread(
                target=lambda seed=seed: results.append(session.run(_image(seed), _vectors(2, 1)))
            )
            thread.start()
            thread.join()
    assert len(results) == 3 and trt.driver.current == []


def test_impossible_requests(trt: fake_gpu.TensorRT, plan: Plan) -> None:
    with TensorRTSession(plan) as session:
        with pytest.raises(UsageError, match=r"17 classes of up to 1 names.*holds 4x2, 16x5.*--profiles 17x1"):
            session.run(_image(), _vectors(17, 1))
        with pytest.raises(UsageError, match=r"4 classes of up to 6 names"):
            session.run(_image(), _vectors(4, 6))
        with pytest.raises(UsageError, match=r"expected float32 \(K, S, 3\)"):
            session.run(_image(), np.zeros((2, 3), np.float32))
        with pytest.raises(UsageError, match=r"the image is uint8 \[1, 2, 2, 3\]"):
            session.run(np.zeros((1, 2, 2, 3), np.uint8), _vectors(1, 1))
        session.run(_image(), _vectors(1, 1))  # and goes on
    with pytest.raises(PlanError, match="is closed"):
        session.run(_image(), _vectors(1, 1))
    session.close()


@pytest.mark.parametrize(
    "method", ["execute_async_v3", "set_input_shape", "set_tensor_address", "set_optimization_profile_async"]
)
def test_a_refusal_of_tensorrt_is_one_line(trt: fake_gpu.TensorRT, plan: Plan, method: str) -> None:
    trt.refuses = method
    with TensorRTSession(plan) as session:
        with pytest.raises(PlanError, match=r"the plan .*tiny.plan (failed|refuses the profile)"):
            session.run(_image(), _vectors(1, 1))
        trt.refuses = None
        session.run(_image(), _vectors(1, 1))
    assert trt.driver.alive == set()


def test_a_gpu_without_memory_is_one_line(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = fake_gpu.install(monkeypatch)
    with TensorRTSession(plan) as session:
        trt.driver.fails = {"mem_alloc"}
        with pytest.raises(PlanError, match="the GPU failed on the plan .*out of memory.*free some"):
            session.run(_image(), _vectors(1, 1))
        trt.driver.fails = set()
        session.run(_image(), _vectors(1, 1))
    assert trt.driver.memory == {}


def test_what_tensorrt_cannot_load_frees_everything(
    trt: fake_gpu.TensorRT, plan: Plan, tiny_bundle: Path, tmp_path: Path
) -> None:
    broken = make_plan(Bundle.open(tiny_bundle), tmp_path / "broken.plan", engine=b"not an engine")
    with pytest.raises(PlanError, match=r"does not load \(magic tag does not match\)"):
        TensorRTSession(broken)
    profiles = [(4, 2)]
    other = json.loads((plan.path / "engine.bin").read_bytes()) | {"profiles": profiles}
    fewer = make_plan(Bundle.open(tiny_bundle), tmp_path / "fewer.plan", engine=json.dumps(other).encode())
    with pytest.raises(PlanError, match="1 profiles, its sidecar says .* and 2"):
        TensorRTSession(fewer)
    assert trt.driver.alive == set() and trt.driver.current == []


def test_layers_and_their_times(trt: fake_gpu.TensorRT, plan: Plan) -> None:
    with TensorRTSession(plan) as session:
        assert session.layers() == [("conv", "Half"), ("bare", "")]
        assert session.layer_times(_image(), _vectors(1, 1), runs=3) == {"conv": 2.0, "add": 0.5}


def test_missing_parts_are_named(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError, match="no TensorRT here"):
        TensorRTSession(plan)
    trt = fake_gpu.install(monkeypatch)
    trt.driver.fails = {"init"}
    with pytest.raises(PlanError, match="no usable GPU .*no CUDA-capable device"):
        find_gpu()
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ovs-edge\[tensorrt\]'"):
        TensorRTSession(plan)


def test_the_segmenter_runs_a_plan(trt: fake_gpu.TensorRT, plan: Plan, tiny_bundle: Path) -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :40] = (0, 0, 255)
    image[:, 40:] = (255, 0, 0)
    with Segmenter.load(tiny_bundle, plan=plan.path, background="none") as segmenter:
        segmenter.set_classes("red,sky")
        labels = segmenter.predict(image).labels
        assert (labels[:, :39] == 0).all() and (labels[:, 41:] == 1).all()
        segmenter.set_classes("green,grass,lawn,yellow,cyan,magenta,red")
        assert (segmenter.predict(image).labels[:, :39] == 6).all()
    with pytest.raises(UsageError, match="a plan runs on TensorRT"):
        Segmenter.load(tiny_bundle, provider="cpu", plan=plan.path)


def test_a_plan_of_another_bundle_or_precision_is_refused(
    trt: fake_gpu.TensorRT, plan: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str], tiny_bundle: Path
) -> None:
    bundle = Bundle.open(tiny_bundle)
    foreign = make_plan(bundle, tmp_path / "foreign.plan", bundle_digest="0" * 64)
    with pytest.raises(PlanError, match="was built from the bundle tiny 000000000000"):
        Segmenter.load(tiny_bundle, plan=foreign.path)
    half = make_plan(bundle, tmp_path / "half.plan", precision="fp16")
    with pytest.raises(PlanError, match="is in fp16, fp32 was asked for"):
        Segmenter.load(tiny_bundle, plan=half.path)
    unproven = make_plan(bundle, tmp_path / "unproven.plan", parity={})
    Segmenter.load(tiny_bundle, plan=unproven.path).__exit__(None, None, None)
    assert "was never compared" in capfd.readouterr().err
    assert trt.loaded == [(unproven.path / "engine.bin").read_bytes()]
