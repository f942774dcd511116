"""`ovs-build` around the build itself: the child process, the comparison, the choice, the cache. The GPU is a fake."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from support import build_work, fake_gpu
from support.plans import target

from ovs_edge.bundle.bundle import Bundle, sha256
from ovs_edge.bundle.errors import MissingExtraError, ParityError, PlanError, UsageError
from ovs_edge.calibration import build_cli, build_plan, builder
from ovs_edge.calibration.build_child import build_in_child, check_memory, needed_bytes
from ovs_edge.calibration.build_parity import compare_plan, make_vocabularies
from ovs_edge.calibration.build_plan import Candidate, Outcome, PlanOptions, candidates, choose, default_profiles
from ovs_edge.calibration.builder import BuildRequest, Built
from ovs_edge.runtime.memory_session import MemorySession
from ovs_edge.runtime.plan import ENGINE, SIDECAR, Plan, Profile, cached
from ovs_edge.runtime.segmenter import Segmenter

COMMAND = [sys.executable, "-m", "ovs_edge.calibration.build_cli"]


def _request(tmp_path: Path, graph: Path) -> BuildRequest:
    return BuildRequest(graph, tmp_path / "e", "tensorrt_rtx", (Profile(8, 2),), 3, 3, None, None)


# The child process


def test_a_build_in_a_child_reports_and_returns(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    built = build_in_child(_request(tmp_path, tmp_path), lambda *step: steps.append(step), build_work.works)
    assert built.size == 6 and (tmp_path / "e").read_bytes() == b"engine"
    assert steps == [("phase", 1, 2), ("phase", 2, 2)]


@pytest.mark.parametrize(
    ("work", "error", "says"),
    [
        (build_work.is_killed, PlanError, "was killed, most likely because memory ran out; close programs"),
        (build_work.crashes, PlanError, "crashed while building .SIGABRT."),
        (build_work.fails, PlanError, "^TensorRT cannot build it$"),
        (build_work.lacks, MissingExtraError, "cannot import tensorrt"),
        (build_work.cannot_write, PlanError, "cannot write the plan .*No space left.*free some space"),
    ],
)
def test_whatever_ends_a_child_is_one_line(
    tmp_path: Path, work: Callable[..., Built], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        build_in_child(_request(tmp_path, tmp_path), lambda *step: None, work)


class _Config:
    """A builder's configuration that keeps a timing cache; caches of another GPU begin with X."""

    def __init__(self) -> None:
        self.cache: bytes | None = None

    def create_timing_cache(self, data: bytes) -> bytes:
        return data

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = None if cache.startswith(b"X") else cache
        return self.cache is not None

    def get_timing_cache(self) -> Any:
        return None if self.cache is None else SimpleNamespace(serialize=lambda: b"times" + (self.cache or b""))


def test_the_timing_cache_is_kept_and_a_foreign_one_replaced(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "a.timing"
    config: Any = _Config()
    builder._read_timing_cache(config, path)
    assert config.cache == b""
    builder._write_timing_cache(config, path)
    builder._read_timing_cache(config, path)
    assert config.cache == b"times" and [file.name for file in path.parent.iterdir()] == ["a.timing"]
    path.write_bytes(b"X")
    builder._read_timing_cache(config, path)
    assert config.cache == b""


def test_too_little_memory_is_said_before(tiny_bundle: Path) -> None:
    graph = tiny_bundle / "segmenter.onnx"
    with pytest.raises(PlanError, match=r"100 MiB of memory are free, building takes 45\d MiB at least.*add swap"):
        check_memory(graph, 100 * 2**20)
    check_memory(graph, needed_bytes(graph))
    check_memory(graph, None)


# What is built, and what is kept


def _options(**changes: Any) -> PlanOptions:
    given = {
        "precision": "fp32", "msda": "auto", "profiles": (Profile(4, 2), Profile(16, 5)), "level": 3,
        "workspace": None, "images": None, "memory_check": True,
    }  # fmt: skip
    return PlanOptions(**{**given, **changes})  # type: ignore[arg-type]


def _with(bundle: Bundle, *precisions: str, msda: str = "gridsample") -> Bundle:
    graph = dataclasses.replace(bundle.manifest.graph, msda=msda)  # type: ignore[arg-type]
    known = dict.fromkeys(precisions, "segmenter.onnx")
    return Bundle(bundle.path, dataclasses.replace(bundle.manifest, precisions=known, graph=graph))


def test_candidates(tiny_bundle: Path) -> None:
    bundle = _with(Bundle.open(tiny_bundle), "fp32", "fp16", "int8-cpu")
    both = [Candidate("fp16", "gridsample"), Candidate("fp16", "gather")]
    assert candidates(bundle, _options(precision="fp16"), gpu=True) == both
    assert candidates(bundle, _options(precision="fp16"), gpu=False) == both[:1]
    assert candidates(bundle, _options(precision="fp16", msda="gather"), gpu=False) == both[1:]
    every = [Candidate("fp32", "gridsample"), Candidate("fp32", "gather"), *both]
    assert candidates(bundle, _options(precision="auto"), gpu=True) == every
    spelt = _with(bundle, "fp32", msda="gather")
    assert candidates(spelt, _options(), gpu=True) == [Candidate("fp32", "gather")]
    for asked, from_bundle, says in (
        (_options(precision="auto"), bundle, "no GPU is here to run them; name a precision"),
        (_options(precision="int8-cpu"), bundle, "int8-cpu is for processors"),
        (_options(precision="int8"), bundle, "has no precision 'int8'"),
        (_options(msda="gridsample"), spelt, "exported with gather"),
    ):
        with pytest.raises(UsageError, match=says):
            candidates(from_bundle, asked, gpu=False)


def test_profiles() -> None:
    assert [str(one) for one in default_profiles(512)] == ["8x64", "32x64", "128x64", "512x32"]
    assert [str(one) for one in default_profiles(150)] == ["8x64", "32x64", "128x64", "150x64"]
    assert [str(one) for one in default_profiles(5)] == ["5x64"]
    assert build_plan.parse_profiles("8x64, 100x2,8x64", 100) == (Profile(8, 64), Profile(100, 2))
    for text in ("", "8", "8x0", "0x8", "101x1", "8x64;", "8x-1"):
        with pytest.raises(UsageError, match="expected CLASSESxNAMES .* at most 100 classes"):
            build_plan.parse_profiles(text, 100)


def _scored(flipped: int, confidence: float = 0.5) -> MemorySession:
    def answer(image: Any, vectors: Any) -> tuple[Any, Any]:
        labels = np.zeros((1, 10, 100), np.int32)
        labels.reshape(-1)[:flipped] = 1
        return labels, np.full((1, 10, 100), confidence, np.float32)

    return MemorySession(answer)


@pytest.mark.parametrize(
    ("precision", "flipped", "confidence", "passes"),
    [("fp32", 1, 0.5, True), ("fp32", 2, 0.5, False), ("fp16", 10, 0.6, True), ("fp16", 11, 0.5, False),
     ("int8", 11, 0.5, False), ("fp16", 0, float("nan"), False)],
)  # fmt: skip
def test_the_bar(precision: str, flipped: int, confidence: float, passes: bool) -> None:
    vocabularies = [(Profile(4, 2), np.ones((count, 1, 3), np.float32)) for count in (1, 4)]
    picture = np.zeros((1, 10, 100, 3), np.uint8)
    parity = compare_plan(
        _scored(flipped, confidence), _scored(0), [picture, picture], vocabularies, precision, lambda line: None
    )
    assert [row.classes for row in parity.rows] == [1, 4] and parity.pictures == 2
    assert parity.rows[0].labels_equal == 1 - flipped / 1000 and parity.milliseconds > 0
    if passes:
        parity.check()
    else:
        with pytest.raises(ParityError, match="the plan differs from ONNX Runtime.*is not used"):
            parity.check()


def test_vocabularies_reach_both_ends_of_every_profile(tiny_bundle: Path) -> None:
    made = make_vocabularies(Bundle.open(tiny_bundle), (Profile(16, 5), Profile(4, 2)))
    assert [vectors.shape for _, vectors in made] == [(1, 1, 3), (4, 2, 3), (5, 1, 3), (16, 5, 3)]
    assert all(np.abs(vectors).sum(-1).min() > 0 for _, vectors in made)  # no zero row: every name counts


def _outcome(candidate: Candidate, milliseconds: float, equal: float = 1.0) -> Outcome:
    vocabularies = [(Profile(4, 2), np.ones((1, 1, 3), np.float32))]
    picture = np.zeros((1, 10, 100, 3), np.uint8)
    flipped = round((1 - equal) * 1000)
    parity = compare_plan(_scored(flipped), _scored(0), [picture], vocabularies, "fp16", lambda line: None)
    rows = tuple(dataclasses.replace(row, milliseconds=milliseconds) for row in parity.rows)
    built = Built("", 0, 0.0, 0.0, ())
    return Outcome(candidate, Path(), built, dataclasses.replace(parity, rows=rows))


def test_the_fastest_that_passes_is_kept() -> None:
    speed = {"fp32": 9.0, "fp16": 4.0, "int8": 2.0}
    wanted = [Candidate(name, "gridsample") for name in speed]
    told: list[str] = []

    def build(candidate: Candidate) -> Outcome:
        return _outcome(candidate, speed[candidate.precision], 0.9 if candidate.precision == "int8" else 1.0)

    assert choose(wanted, build, True, told.append).candidate.precision == "fp16"
    assert len(told) == 1 and told[0].startswith("int8, gridsample: the plan differs")
    assert choose(wanted, build, False, told.append).candidate.precision == "fp32"

    def refuse(candidate: Candidate) -> Outcome:
        raise PlanError(f"no {candidate.precision}")

    with pytest.raises(PlanError, match="no fp32"):
        choose(wanted, refuse, True, told.append)


# The command, on a GPU that is not there


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> fake_gpu.TensorRT:
    """Engines are ONNX files that ONNX Runtime runs; those of `bad` formulations label everything with class 0."""
    trt = fake_gpu.install(monkeypatch)
    trt.bad = set()  # type: ignore[attr-defined]

    def build(request: BuildRequest, progress: Any) -> Built:
        formulation = request.engine.parent.name.split("-")[1]
        graph = request.graph
        if formulation in trt.bad:  # type: ignore[attr-defined]
            model = onnx.load(str(graph))
            for node in model.graph.node:
                if node.op_type == "ReduceMax" and node.output[0] == "pixel_logits":
                    node.op_type = "ReduceMin"
            graph = request.engine.with_name("bad.onnx")
            onnx.save(model, str(graph))
        else:
            # The work folder goes; the fake's engine needs its graph.
            graph = tiny_bundle / "segmenter.onnx"
        data = fake_gpu.engine_bytes(graph, [(one.classes, one.names) for one in request.profiles])
        request.engine.write_bytes(data)
        return Built(hashlib.sha256(data).hexdigest(), len(data), 0.1, 1.0, ())

    monkeypatch.setattr(build_plan, "build_in_child", build)
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
    assert "there is no plan of tiny in fp32" in told.err and "passed; run it with: ovs-run" in told.err
    assert "4x2" in told.out and "100.0000%" in told.out
    (plan,) = cached(Bundle.open(tiny_bundle), "fp32")
    assert plan.compared and plan.sidecar.parity["rows"][-1]["classes"] == 16
    _build(*arguments, "--inspect", "--report", report)
    told = capsys.readouterr()
    assert "is up to date" in told.err and "conv" in told.out and "2.000" in told.out
    assert len(json.loads(report.read_text())["builds"]) == 1
    with Segmenter.load(tiny_bundle, provider="tensorrt") as segmenter:
        segmenter.set_classes("red,sky")
        image = np.zeros((48, 64, 3), np.uint8)
        image[..., 2] = 255
        assert (segmenter.predict(image).labels == 0).all()
    assert gpu.driver.memory == {} and gpu.driver.alive == set()


def test_a_formulation_that_computes_something_else_is_not_published(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tiny.plan"
    arguments = (tiny_bundle, "--precision", "fp32", "--profiles", "4x2", "-o", output)
    gpu.bad = {"gridsample", "gather"}  # type: ignore[attr-defined]
    with pytest.raises(ParityError, match="the plan differs from ONNX Runtime"):
        _build(*arguments)
    assert list(tmp_path.iterdir()) == []
    gpu.bad = {"gridsample"}  # type: ignore[attr-defined]
    _build(*arguments)
    assert "fp32, gridsample: the plan differs" in capsys.readouterr().err
    plan = Plan.open(output)
    assert plan.sidecar.formulation == "gather" and sorted(os.listdir(output)) == [ENGINE, SIDECAR]
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


def test_auto_keeps_one(
    gpu: fake_gpu.TensorRT, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _build(tiny_bundle, "--profiles", "4x2")
    assert len(list(cached(Bundle.open(tiny_bundle), "fp32"))) == 1
    assert capsys.readouterr().err.count("building fp32") == 2


def test_faults_are_one_line(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for arguments, says in (
        (["--precision", "fp16"], "has no precision 'fp16'"),
        (["--profiles", "8"], "expected CLASSESxNAMES"),
        (["--engine", "tensorrt"], "no TensorRT here"),
        (["--precision", "fp32", "--engine", "tensorrt_rtx", "-o", str(tmp_path / "mine")], "is not a plan"),
    ):
        ran = subprocess.run([*COMMAND, str(tiny_bundle), *arguments], capture_output=True, text=True, check=False)
        assert ran.returncode == 2 and "Traceback" not in ran.stderr
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
        assert process.wait(30) == 130 and "Traceback" not in rest
    assert list(scratch.iterdir()) == [] and not output.parent.exists()
