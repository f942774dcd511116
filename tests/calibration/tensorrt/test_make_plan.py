"""`ovs-build` around the build itself: the child process, the comparison, the choice, the cache. The GPU is a fake."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import build_work

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import MissingExtraError, ParityError, PlanError, UsageError
from ovs_edge.bundle.manifest import Verdict
from ovs_edge.calibration.tensorrt import builder
from ovs_edge.calibration.tensorrt import make_plan as build_plan
from ovs_edge.calibration.tensorrt.builder import BuildRequest, BuiltEngine
from ovs_edge.calibration.tensorrt.child_process import build_in_child, check_memory, needed_bytes
from ovs_edge.calibration.tensorrt.make_plan import (
    Candidate,
    PlanOptions,
    PlanOutcome,
    candidates,
    choose_plan,
    default_profiles,
)
from ovs_edge.calibration.tensorrt.parity import compare_plan, make_vocabularies
from ovs_edge.calibration.tensorrt.photos import Pictures
from ovs_edge.runtime.engines.memory import MemorySession
from ovs_edge.runtime.engines.plan import Profile

COMMAND = [sys.executable, "-m", "ovs_edge.calibration.build_cli"]


def _request(tmp_path: Path, graph: Path) -> BuildRequest:
    return BuildRequest(graph, tmp_path / "e", "tensorrt_rtx", (Profile(8, 2),), 3, 3, None, None)


# The child process


def test_a_build_in_a_child_reports_and_returns(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    built = build_in_child(_request(tmp_path, tmp_path), lambda *step: steps.append(step), build_work.works)
    assert built.size == 6
    assert (tmp_path / "e").read_bytes() == b"engine"
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
    tmp_path: Path, work: Callable[..., BuiltEngine], error: type[Exception], says: str
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
    assert config.cache == b"times"
    assert [file.name for file in path.parent.iterdir()] == ["a.timing"]
    path.write_bytes(b"X")
    builder._read_timing_cache(config, path)
    assert config.cache == b""


def test_a_timing_cache_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, where a folder should be")
    config: Any = _Config()
    builder._read_timing_cache(config, tmp_path / "cache" / "a.timing")
    (warning,) = builder._write_timing_cache(config, tmp_path / "cache" / "a.timing")
    assert warning.startswith("cannot keep the timings in ")
    assert "measures them again" in warning
    (tmp_path / "folder" / "a.timing").mkdir(parents=True)
    assert builder._write_timing_cache(config, tmp_path / "folder" / "a.timing")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["a.timing"]


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
    plugin = _options(precision="fp16", plugin="2")
    assert candidates(bundle, plugin, gpu=True) == [*both, Candidate("fp16", "plugin")]
    assert candidates(bundle, dataclasses.replace(plugin, msda="plugin"), gpu=False) == [Candidate("fp16", "plugin")]
    failed = dataclasses.replace(bundle.manifest, verdicts={"fp16": Verdict(1, 0.5, 0.5, 0.99, 0.1, True, {})})
    for force, precisions in ((False, {"fp32"}), (True, {"fp32", "fp16"})):
        found = candidates(Bundle(bundle.path, failed, force), _options(precision="auto"), gpu=True)
        assert {candidate.precision for candidate in found} == precisions
    spelt = _with(bundle, "fp32", msda="gather")
    assert candidates(spelt, _options(), gpu=True) == [Candidate("fp32", "gather")]
    for asked, from_bundle, says in (
        (_options(precision="auto"), bundle, "no GPU is here to run them; name a precision"),
        (_options(precision="int8-cpu"), bundle, "int8-cpu is for processors"),
        (_options(precision="int8"), bundle, "has no precision 'int8'"),
        (_options(msda="gridsample"), spelt, "exported with gather"),
        (_options(msda="plugin", plugin="2"), spelt, "exported with gather"),
        (_options(msda="plugin"), bundle, "this TensorRT has no Multiscale"),
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


BLACK = Pictures((np.zeros((1, 10, 100, 3), np.uint8),) * 2, "black")


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
    parity = compare_plan(_scored(flipped, confidence), _scored(0), BLACK, vocabularies, precision, lambda line: None)
    assert [row.classes for row in parity.rows] == [1, 4]
    assert parity.pictures == 2
    assert parity.rows[0].labels_equal == 1 - flipped / 1000
    assert parity.milliseconds > 0
    if passes:
        parity.check()
    else:
        with pytest.raises(ParityError, match="the plan differs from ONNX Runtime.*is not used"):
            parity.check()


def _queried(masks: float, classes: float) -> MemorySession:
    """One query of two has its mask, or its class, moved by so many logits."""

    def answer(image: Any, vectors: Any) -> tuple[Any, Any]:
        mask_logits = np.full((1, 2, 4, 4), 3.0, np.float32)
        class_logits = np.full((1, 2, len(vectors) + 1), -1e4, np.float32)
        class_logits[..., 0] = 1
        class_logits[..., -1] = 0
        mask_logits[:, 0] -= masks
        class_logits[:, 0, 0] -= classes
        return mask_logits, class_logits

    return MemorySession(_scored(0).run, answer)


@pytest.mark.parametrize(
    ("precision", "masks", "classes", "fails"),
    [("fp32", 0, 0, ""), ("fp32", 0.05, 0, ""), ("fp32", 0.2, 0, "masks"), ("fp16", 0.2, 0, ""), ("fp16", 2, 0, "masks"),
     ("fp32", 0, 0.02, ""), ("fp32", 0, 0.1, "classes"), ("int8", 0, 0.1, ""), ("int8", 0, 1, "classes"),
     ("fp16", float("nan"), 0, "masks"), ("fp16", 0, float("nan"), "classes"), ("fp16", 0, float("inf"), "classes")],
)  # fmt: skip
def test_the_bar_for_queries(precision: str, masks: float, classes: float, fails: str) -> None:
    vocabularies = [(Profile(4, 2), np.ones((3, 1, 3), np.float32))]
    found, expected = _queried(masks, classes), _queried(0, 0)
    parity = compare_plan(found, expected, BLACK, vocabularies, precision, lambda line: None, panoptic=True)
    assert parity.rows[0].labels_equal == 1
    if not fails:
        parity.check()
    else:
        with pytest.raises(ParityError, match=rf"the queries' {fails} are \S+ apart, expected at most 0.03?0?3?"):
            parity.check()


def test_vocabularies_reach_both_ends_of_every_profile(tiny_bundle: Path) -> None:
    made = make_vocabularies(Bundle.open(tiny_bundle), (Profile(16, 5), Profile(4, 2)))
    assert [vectors.shape for _, vectors in made] == [(1, 1, 3), (4, 2, 3), (5, 1, 3), (16, 5, 3)]
    assert all(np.abs(vectors).sum(-1).min() > 0 for _, vectors in made)  # no zero row: every name counts


def _outcome(candidate: Candidate, milliseconds: tuple[float, ...], equal: float = 1.0) -> PlanOutcome:
    vocabularies = [(Profile(4, 2), np.ones((1, 1, 3), np.float32))]
    flipped = round((1 - equal) * 1000)
    parity = compare_plan(_scored(flipped), _scored(0), BLACK, vocabularies, "fp16", lambda line: None)
    (row,) = parity.rows
    rows = tuple(dataclasses.replace(row, milliseconds=value) for value in milliseconds)
    built = BuiltEngine("", 0, 0.0, 0.0, ())
    return PlanOutcome(candidate, Path(), built, dataclasses.replace(parity, rows=rows))


def test_the_fastest_that_passes_is_kept() -> None:
    # The smallest profile alone would choose fp32, the largest alone bf16.
    speed = {"fp32": (2.0, 90.0), "fp16": (4.0, 20.0), "bf16": (30.0, 19.0), "int8": (1.0, 9.0)}
    wanted = [Candidate(name, "gridsample") for name in speed]
    told: list[str] = []

    def build(candidate: Candidate) -> PlanOutcome:
        return _outcome(candidate, speed[candidate.precision], 0.9 if candidate.precision == "int8" else 1.0)

    assert choose_plan(wanted, build, told.append, fastest=True).candidate.precision == "fp16"
    assert len(told) == 4
    assert told[3].startswith("int8, gridsample: the plan differs")
    assert told[0] == "fp32, gridsample: passes, 2.00 ms with 4x2, 90.00 ms with 4x2"
    assert choose_plan(wanted, build, told.append, fastest=False).candidate.precision == "fp32"

    def refuse(candidate: Candidate) -> PlanOutcome:
        raise PlanError(f"no {candidate.precision}")

    with pytest.raises(PlanError, match="no fp32"):
        choose_plan(wanted, refuse, told.append, fastest=True)
