"""The registry of engines: one line adds one, `auto` takes the first that can be used and says why another cannot."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import UsageError, note_once
from ovs_edge.bundle.manifest import Verdict
from ovs_edge.runtime.engines import onnx_runtime, registry
from ovs_edge.runtime.engines.engine import Engine, EngineOptions, Finding, Obstacle
from ovs_edge.runtime.engines.memory import MemorySession
from ovs_edge.runtime.engines.registry import engines, open_session, providers, resolve


def test_the_engines_there_are() -> None:
    assert providers() == ("auto", "cpu", "cuda", "cuda-graphs", "tensorrt")
    assert [engine.name for engine in engines()] == list(registry.ENGINES)


def test_one_module_and_one_line_add_an_engine(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[EngineOptions] = []

    def open_it(bundle: Bundle, options: EngineOptions) -> MemorySession:
        opened.append(options)
        return MemorySession(lambda image, vectors: (np.zeros((1, 1, 1), np.int32), np.ones((1, 1, 1), np.float32)))

    module = ModuleType("my_engine")
    module.ENGINE = Engine("mine", open_it, examine=lambda: iter([Finding("engines", "ok", "mine 1.0")]))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_engine", module)
    monkeypatch.setitem(registry.ENGINES, "mine", "my_engine:ENGINE")
    assert isinstance(open_session(Bundle.open(tiny_bundle), EngineOptions(provider="mine")), MemorySession)
    assert opened == [EngineOptions(provider="mine")] and "mine" in providers()
    assert [finding.text for engine in engines() if engine.name == "mine" for finding in engine.examine()] == [
        "mine 1.0"
    ]


def test_auto_says_why_it_passes_over_an_engine(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CUDA build without CUDA's libraries: the CPU is used in full, and one line says why."""
    monkeypatch.setattr(
        onnx_runtime, "cuda_obstacle", lambda: Obstacle("no usable CUDA (libcublasLt.so.13: no such file)", True)
    )
    monkeypatch.setattr(onnx_runtime, "usable_cores", lambda: 2)
    with open_session(Bundle.open(tiny_bundle), EngineOptions(side_by_side=True)) as session:
        assert session.at_once == 2
    assert capsys.readouterr().err == "note: no usable CUDA (libcublasLt.so.13: no such file); running on cpu\n"
    with pytest.raises(UsageError, match=r"libcublasLt.so.13.*--provider cpu"):
        open_session(Bundle.open(tiny_bundle), EngineOptions(provider="cuda"))
    monkeypatch.setattr(onnx_runtime, "cuda_obstacle", lambda: Obstacle("no CUDA provider"))
    with open_session(Bundle.open(tiny_bundle)):
        pass
    assert capsys.readouterr().err == ""


def test_more_threads_than_processors_are_capped_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(onnx_runtime, "usable_processors", lambda: [0, 1, 4])
    note_once.cache_clear()
    assert [onnx_runtime.capped(count) for count in (0, 1, 3, 4, 10**30, 4)] == [0, 1, 3, 3, 3, 3]
    assert capsys.readouterr().err.count("note: 4 threads were asked for, this process may use 3") == 1
    with pytest.raises(UsageError, match="-1 threads"):
        onnx_runtime.capped(-1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (EngineOptions(provider="tpu"), "expected one of: auto, cpu, cuda"),
        (EngineOptions(provider="cpu", plan=Path("x")), "leave one of the two out"),
    ],
)
def test_what_is_refused(tiny_bundle: Path, options: EngineOptions, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_session(Bundle.open(tiny_bundle), options)


def test_auto_is_the_fastest_precision_that_passed(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bundle_with(needs: str, agreement: float, precision: str = "int8-cpu") -> Bundle:
        manifest = Bundle.open(tiny_bundle).manifest
        verdict = Verdict(4, agreement, 1.0, 0.97, 0.0, True, {}, needs=needs)  # type: ignore[arg-type]
        changed = dataclasses.replace(
            manifest,
            precisions={**manifest.precisions, precision: manifest.precisions["fp32"]},
            verdicts={precision: verdict},
        )
        return Bundle(tiny_bundle, changed)

    def chosen(bundle: Bundle, provider: str = "cpu") -> str:
        return resolve(bundle, EngineOptions("auto", provider=provider))[1].precision

    monkeypatch.setattr("ovs_edge.bundle.bundle.has_vnni", lambda: False)
    assert chosen(Bundle.open(tiny_bundle)) == "fp32"
    assert chosen(bundle_with("", 0.99)) == "int8-cpu"
    assert chosen(bundle_with("", 0.9)) == "fp32"  # it failed its comparison
    assert chosen(bundle_with("vnni", 0.99)) == "fp32"
    assert chosen(bundle_with("", 0.99), "cuda") == "fp32"
    assert chosen(bundle_with("", 0.99, "fp16"), "cuda") == "fp16"
    monkeypatch.setattr("ovs_edge.bundle.bundle.has_vnni", lambda: True)
    assert chosen(bundle_with("vnni", 0.99)) == "int8-cpu"
