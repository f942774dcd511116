"""`ovs-bench gpu` without a GPU: its dry run, what it keeps, and how it fails."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ovs_edge.benchmarks.cli import main
from ovs_edge.benchmarks.gpu import parity, parts
from ovs_edge.benchmarks.gpu.capabilities import Capabilities, detect
from ovs_edge.benchmarks.gpu.kit import Kit, Tell
from ovs_edge.benchmarks.gpu.limit import run_limited
from ovs_edge.benchmarks.gpu.plan import DEFAULT_PRESETS, PARTS, Scale
from ovs_edge.benchmarks.gpu.roofline import DevicePeak, bound_ms, count_work
from ovs_edge.benchmarks.gpu.runner import run_parts
from ovs_edge.benchmarks.report.report import tables
from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import SourceError, UsageError
from ovs_edge.runtime.inference.refinement import Refinement

NOTHING = Capabilities(None, None, None, None, ("CPUExecutionProvider",), "no CUDA provider", None, {})


def _backends_run(monkeypatch: pytest.MonkeyPatch, run: Callable[[Any, Any, Any], Any]) -> None:
    """Have the parity check call `run(session, image, vectors)` in place of the backends' own `run`."""
    opened = parity.open_backend

    class Changed:
        def __init__(self, session: Any) -> None:
            self._session = session

        def run(self, image: Any, vectors: Any) -> Any:
            return run(self._session, image, vectors)

        def __enter__(self) -> Any:
            self._session.__enter__()
            return self

        def __exit__(self, *error: object) -> None:
            self._session.__exit__(*error)

    monkeypatch.setattr(parity, "open_backend", lambda *arguments: Changed(opened(*arguments)))


def _gpu(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["ovs-bench", "gpu", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_the_dry_run_reaches_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All parts on the embedded model, as CI runs them; figures are there, and the state of the run is gone."""
    assert _gpu(monkeypatch, "--dry-run-on-cpu", "-o", tmp_path) == 0
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "gpu.json").read_text())["gpu"]
    assert list(found["parts"]) == list(PARTS)
    assert found["dry_run"]
    assert [row["provider"] for row in found["parts"]["roofline"]["peaks"]] == ["cpu"]
    assert {(row["classes"], row["names"]) for row in found["parts"]["parity"]["rows"]} == {
        (classes, names) for classes in (2, 20) for names in (1, 4)
    }
    assert all(row["labels_equal"] == 1 for row in found["parts"]["parity"]["rows"])
    frames = found["parts"]["frames"]["rows"]
    assert {tuple(row["frame_size"]) for row in frames} == {(1, 1), (640, 360), (480, 640)}
    assert all(row["labels_equal"] >= 0.999 and row["passed"] for row in frames)
    speed = found["parts"]["speed"]
    assert [row["subject"]["classes"] for row in speed["rows"]] == [2, 20]
    assert all(0 < row["bound_ms"] < 1000 for row in speed["rows"])
    engines = {row["engine"] for row in found["parts"]["presets"]["rows"]}
    assert engines == {"onnxruntime cpu", "torch eager fp32, cpu"}
    assert found["parts"]["pipeline"]["rows"][0]["pipeline_fps"] > 0
    assert found["parts"]["live"]["rows"][0]["new_names"]["median"] > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "graphs", "page.html"]
    for title in ("Measured peak", "Parity with ONNX Runtime", "share of roofline", "presets with random weights"):
        assert title in printed
    assert "dry run on the CPU" in tables(tmp_path)


def test_a_parity_miss_is_loud(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backend that gives one label in ten another value ends with exit code 3, after everything is written."""

    def wrong(session: Any, image: Any, vectors: Any) -> Any:
        labels, confidence = session.run(image, vectors)
        labels = labels.copy()
        labels[:, ::10] = (labels[:, ::10] + 1) % len(vectors)
        return labels, confidence

    _backends_run(monkeypatch, wrong)
    options = ("--dry-run-on-cpu", "--model", tiny_bundle, "--parts", "parity", "-o", tmp_path)
    assert _gpu(monkeypatch, *options) == 3
    error = capsys.readouterr().err.splitlines()[-1]
    assert "4 parity checks failed" in error
    assert "tiny fp32 on cpu with K=" in error
    (row, *_) = json.loads((tmp_path / "gpu.json").read_text())["gpu"]["parts"]["parity"]["rows"]
    assert not row["passed"]
    assert row["labels_equal"] == pytest.approx(1 - 5 / 48, abs=0.01)
    assert "FAILED, expected 99.9%" in tables(tmp_path)


def test_a_finished_part_is_not_run_again(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed part is repeated in the same folder; other options do not continue the run."""
    ran: list[str] = []
    broken = True

    def roofline(run: Kit, done: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
        ran.append("roofline")
        return {"peaks": []}

    def live(run: Kit, done: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
        ran.append("live")
        assert "roofline" in done
        if broken:
            raise SourceError("no network")
        return {"rows": []}

    monkeypatch.setitem(parts.PARTS, "roofline", roofline)
    monkeypatch.setitem(parts.PARTS, "live", live)
    run = Kit(tmp_path, (tiny_bundle,), Scale.dry_run(), NOTHING, 1)
    done = run_parts(run, ("roofline", "live"), lambda step: None)
    assert done["live"]["error"] == "no network"
    broken = False
    done = run_parts(run, ("roofline", "live"), lambda step: None)
    assert ran == ["roofline", "live", "live"]
    assert done["live"]["rows"] == []
    other = Kit(tmp_path, (tiny_bundle,), Scale(), NOTHING, 1)
    with pytest.raises(UsageError, match="other bundles, packages or options"):
        run_parts(other, ("roofline",), lambda step: None)
    (tmp_path / ".parts.state").write_text("{")
    with pytest.raises(UsageError, match="not the state of a run"):
        run_parts(run, ("roofline",), lambda step: None)


@pytest.mark.parametrize("part", PARTS)
def test_every_part_ends_with_its_time(
    part: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no time left, each part says what it left out; only the first thing of each is run."""
    if part in ("speed", "presets"):
        monkeypatch.setattr("ovs_edge.benchmarks.speed.speed._LEAST_ROUNDS", 1)
        monkeypatch.setattr("ovs_edge.benchmarks.speed.speed.measure_start", lambda *arguments: None)
    scale = dataclasses.replace(Scale.dry_run(), seconds=0.0, sides=(64, 96))
    run = Kit(tmp_path, (tiny_bundle, tiny_bundle), scale, NOTHING, 1)
    (result,) = run_parts(run, (part,), lambda step: None).values()
    assert "error" not in result
    assert any("out of time" in reason for reason in result["left_out"])
    assert result["seconds"] < 60


def test_a_part_that_hangs_is_stopped() -> None:
    """So is one whose process dies; what it raises is told, and a result comes back."""
    assert run_limited(divmod, (17, 5), 60) == (3, 2)
    with pytest.raises(SourceError, match="it did not end within 0.0 minutes and was stopped"):
        run_limited(time.sleep, (600,), 0.5)
    with pytest.raises(SourceError, match="ended with exit code 7"):
        run_limited(os._exit, (7,), 60)
    with pytest.raises(SourceError, match="ZeroDivisionError"):
        run_limited(divmod, (1, 0), 60)
    with pytest.raises(UsageError, match="expected a share of the frame"):
        run_limited(Refinement, (False, 2.0), 60)


def test_what_a_stopped_part_started_ends_with_it(tmp_path: Path) -> None:
    """A shell that starts a process and waits: both are gone when its time is over."""
    number = tmp_path / "number"
    with pytest.raises(SourceError, match="was stopped"):
        run_limited(os.system, (f"sleep 600 & echo $! > {number}; wait",), 3)
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(int(number.read_text()), 0)
            time.sleep(0.05)


def test_a_backend_that_opens_and_then_fails_is_a_miss(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was compared before stays; the corner that raised is a row that did not pass."""
    bundle = Bundle.open(tiny_bundle)

    def two_classes_only(session: Any, image: Any, vectors: Any) -> Any:
        if len(vectors) > 2:
            raise SourceError("CUDA failure 900")
        return session.run(image, vectors)

    _backends_run(monkeypatch, two_classes_only)
    picture = np.zeros((1, *bundle.manifest.input_size, 3), np.uint8)
    rows, left_out = parity.measure_parity(bundle, ["cpu"], [(2, 1), (5, 1)], [picture], lambda step: None, math.inf)
    assert [(row.classes, row.passed) for row in rows] == [(2, True), (5, False)]
    assert any("CUDA failure 900" in line for line in left_out)


def test_clip_is_among_the_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one pass, with fewer channels here, and eager torch beside."""
    from ovs_edge.benchmarks.gpu import presets

    small = functools.partial(presets.ClipVisionConfig)
    monkeypatch.setattr(
        presets, "ClipVisionConfig", lambda **sizes: small(**{**sizes, "width": 64, "heads": 1, "dim": 32})
    )
    request = presets.PresetRequest((64,), (2, 5), ("cpu",), 1, (), math.inf)
    rows, left_out = presets.measure_presets(("clip_b16_whole",), request, tmp_path, lambda step: None)
    assert not left_out
    assert [row.classes for row in rows] == [2, 2, 5, 5]
    assert {row.engine for row in rows} == {"onnxruntime cpu", "torch eager fp32, cpu"}
    assert set(presets.CLIP_PRESETS) < set(DEFAULT_PRESETS)


def test_what_is_installed_decides_what_runs() -> None:
    """Backends follow from providers, packages and a device."""
    assert NOTHING.backends == ("cpu",)
    providers = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
    packages = {"onnxruntime-gpu": "1.0", "tensorrt": "10.3", "pycuda": "2024.1"}
    full = Capabilities("Orin", "540", "8.7", 7620, providers, None, "12.6", packages)
    assert full.backends == ("cpu", "cuda", "cuda-graphs", "ort-tensorrt", "tensorrt")
    assert detect().providers  # this machine's, whatever it has


def test_the_work_of_a_graph(tmp_path: Path) -> None:
    """Products and convolutions are counted by their shapes; the bound takes the slower of computing and moving."""
    kernel = numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "kernel")
    matrix = numpy_helper.from_array(np.ones((5, 8), np.float32), "matrix")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["maps"]),
            helper.make_node("GlobalAveragePool", ["maps"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["row"]),
            helper.make_node("Gemm", ["row", "matrix"], ["y"], transB=1),
        ],
        "work",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 10, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [kernel, matrix],
    )
    path = tmp_path / "work.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    convolution, product = count_work(path, {"x": np.ones((1, 3, 10, 12), np.float32)})
    assert convolution.flops == 2 * 8 * 8 * 10 * 27
    assert convolution.values == 3 * 10 * 12 + 8 * 27 + 8 * 8 * 10
    assert product.flops == 2 * 5 * 8
    assert product.values == 8 + 5 * 8 + 5
    slow_memory = DevicePeak("cuda", "fp16", tflops=1e6, gb_per_s=1.0)
    moved = convolution.values + product.values
    assert bound_ms([convolution, product], slow_memory, "fp16") == pytest.approx(1e3 * 2 * moved / 1e9)
    slow_cores = DevicePeak("cuda", "fp32", tflops=1e-6, gb_per_s=1e6)
    computed = convolution.flops + product.flops
    assert bound_ms([convolution, product], slow_cores, "fp32") == pytest.approx(1e3 * computed / 1e6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--parts", "roofline,sped"), "--parts names 'sped'"),
        (("--sizes", "384,500"), "expected multiples of 32"),
        ((), "no GPU engine can be used here"),
    ],
)
def test_impossible_requests_are_one_line(
    options: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, and nothing is written."""
    if not options and detect().backends != ("cpu",):
        pytest.skip("a GPU engine can be used here, so the request is possible")
    assert _gpu(monkeypatch, *options, "-o", tmp_path / "results") == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()
