"""Plans: nothing that was altered, cut short, or made for another device is deserialised."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import fake_gpu
from support.plans import PROFILES, make_plan, target

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import OvsError, PlanError
from ovs_edge.runtime.engines import open_plan as plan_opening
from ovs_edge.runtime.engines.plan import ENGINE, SIDECAR, Plan, cached, cached_path, fitting
from ovs_edge.runtime.engines.tensorrt import TensorRTSession
from ovs_edge.runtime.segmenter import Segmenter


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


def test_a_sidecar_is_read_as_it_was_written(bundle: Bundle, tmp_path: Path) -> None:
    plan = make_plan(bundle, tmp_path / "a.plan")
    assert plan.sidecar.manifest == bundle.manifest and plan.sidecar.profiles == PROFILES
    assert plan.compared and plan.strangers(target()) == []
    assert plan.engine(target()) == (plan.path / ENGINE).read_bytes()


@pytest.mark.parametrize("harm", ["flipped", "cut", "longer", "swapped", "gone", "empty"])
def test_a_harmed_engine_never_reaches_deserialisation(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    trt = fake_gpu.install(monkeypatch)
    plan = make_plan(bundle, tmp_path / "a.plan")
    file = plan.path / ENGINE
    data = file.read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        swapped = data.replace(b"segmenter", b"tnemgeser")
        file.write_bytes(
            {
                "flipped": bytes([data[0] ^ 1]) + data[1:],
                "cut": data[:-1],
                "longer": data + b"\0",
                "swapped": swapped,
                "empty": b"",
            }[harm]
        )
    with pytest.raises(PlanError, match=r"(was altered|cut short|cannot read).*(ovs-build|copy it again)"):
        TensorRTSession(Plan.open(plan.path))
    assert trt.loaded == [] and trt.driver.alive == set()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": "10.4.0"}, "built by tensorrt 10.4.0, here is tensorrt 10.3.0"),
        ({"gpu": "Xavier", "capability": "7.2"}, "built for Xavier .compute capability 7.2., here is Fake Orin .8.7."),
        ({"capability": "8.6"}, "compute capability 8.6"),
        ({"machine": "riscv"}, "built on Linux riscv"),
        ({"system": "Windows"}, "built on Windows"),
    ],
)
def test_a_foreign_plan_never_reaches_deserialisation(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], says: str
) -> None:
    trt = fake_gpu.install(monkeypatch)
    plan = make_plan(bundle, tmp_path / "a.plan", target=dataclasses.replace(target(), **change))
    with pytest.raises(PlanError, match=f"does not fit: .*{says}.*ovs-build"):
        TensorRTSession(plan)
    assert trt.loaded == [] and trt.driver.alive == set()


def test_a_plan_built_without_a_gpu_fits_any(bundle: Bundle, tmp_path: Path) -> None:
    built = dataclasses.replace(target(), module="tensorrt_rtx", gpu=None, capability=None)
    here = dataclasses.replace(target(), module="tensorrt_rtx")
    assert make_plan(bundle, tmp_path / "a.plan", target=built).strangers(here) == []


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda raw: raw | {"schema": 2}, "schema 2, this version reads 1"),
        (lambda raw: raw | {"schema": True}, "schema True"),
        (lambda raw: raw | {"extra": 1}, "unknown entries .'extra'."),
        (lambda raw: {key: value for key, value in raw.items() if key != "target"}, "missing entries .'target'."),
        (lambda raw: raw | {"engine_bytes": "12"}, "engine_bytes: found str"),
        (lambda raw: raw | {"formulation": "kernel"}, "found 'kernel'"),
        (lambda raw: raw | {"profiles": []}, "no sound profiles"),
        (lambda raw: raw | {"profiles": [{"classes": 0, "names": 1}]}, "no sound profiles"),
        (lambda raw: raw | {"manifest": raw["manifest"] | {"schema": 99}}, "manifest has schema 99"),
        (lambda raw: [raw], "schema None"),
    ],
)
def test_a_harmed_sidecar_is_one_line(bundle: Bundle, tmp_path: Path, edit: Any, says: str) -> None:
    plan = make_plan(bundle, tmp_path / "a.plan")
    file = plan.path / SIDECAR
    file.write_text(json.dumps(edit(json.loads(file.read_text()))))
    with pytest.raises(PlanError, match=says):
        Plan.open(plan.path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_for_a_sidecar(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "any.plan"
    folder.mkdir(exist_ok=True)
    (folder / SIDECAR).write_bytes(data)
    with pytest.raises(PlanError):
        Plan.open(folder)


def test_what_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="expected a folder that ovs-build wrote"):
        Plan.open(tmp_path / "none.plan")


def test_the_cache_finds_what_fits_and_says_what_is_stale(bundle: Bundle) -> None:
    with pytest.raises(PlanError, match="there is no plan of tiny in fp32 for tensorrt 10.3.0, Fake Orin"):
        fitting(bundle, "fp32", target())
    older = dataclasses.replace(target(), version="10.0.1")
    stale = make_plan(bundle, cached_path(bundle.digest, "fp32", older, PROFILES), target=older)
    with pytest.raises(PlanError, match=r"of tiny in fp32 is stale: .*tensorrt 10.0.1, here is tensorrt 10.3.0"):
        fitting(bundle, "fp32", target())
    fresh = make_plan(bundle, cached_path(bundle.digest, "fp32", target(), PROFILES))
    assert fresh.path != stale.path and fresh.path.parent == stale.path.parent
    assert fitting(bundle, "fp32", target()).path == fresh.path
    # What is in the making, damaged, or of another bundle is not taken.
    make_plan(bundle, fresh.path.with_name(".half-done"))
    make_plan(bundle, fresh.path.with_name("other"), bundle_digest="1" * 64)
    (make_plan(bundle, fresh.path.with_name("damaged")).path / SIDECAR).write_text("{")
    assert {plan.path for plan in cached(bundle, "fp32")} == {fresh.path, stale.path}
    assert list(cached(bundle, "fp16")) == []


def test_a_damaged_plan_in_the_cache_is_built_again(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_gpu.install(monkeypatch)
    plan = make_plan(bundle, cached_path(bundle.digest, "fp32", target(), PROFILES))
    whole = (plan.path / ENGINE).read_bytes()
    (plan.path / ENGINE).write_bytes(whole[:-9])

    def builder(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        (plan.path / ENGINE).write_bytes(whole)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(plan_opening.subprocess, "run", builder)
    Segmenter.load(bundle.path, provider="tensorrt").__exit__(None, None, None)
    (line,) = capfd.readouterr().err.splitlines()
    assert "the plan of tiny in fp32 is damaged: " in line and "it is cut short" in line and "building it now" in line


def test_the_cache_passes_over_what_is_damaged_or_of_other_profiles(bundle: Bundle) -> None:
    sound = make_plan(bundle, cached_path(bundle.digest, "fp32", target(), PROFILES))
    damaged = make_plan(bundle, cached_path(bundle.digest, "fp32", target(), PROFILES[:1]), profiles=PROFILES[:1])
    os.utime(damaged.path / SIDECAR, (2e9, 2e9))
    assert fitting(bundle, "fp32", target()).path == damaged.path
    (damaged.path / ENGINE).write_bytes(b"")
    assert fitting(bundle, "fp32", target()).path == fitting(bundle, "fp32", target(), PROFILES).path == sound.path
    with pytest.raises(PlanError, match="is damaged: .*has 0 bytes"):
        fitting(bundle, "fp32", target(), PROFILES[:1])
    (damaged.path / SIDECAR).unlink()
    with pytest.raises(PlanError, match="of tiny in fp32 holds 4x2,16x5, asked for is 4x2"):
        fitting(bundle, "fp32", target(), PROFILES[:1])


def test_a_missing_plan_is_built_by_the_builder(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_gpu.install(monkeypatch)
    commands = []

    def builder(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        if len(commands) > 1:
            make_plan(bundle, cached_path(bundle.digest, "fp32", target(), PROFILES))
        return subprocess.CompletedProcess(command, 1 if len(commands) == 1 else 0)

    monkeypatch.setattr(plan_opening.subprocess, "run", builder)
    with pytest.raises(PlanError, match="ovs-build failed .exit code 1."):
        Segmenter.load(bundle.path, provider="tensorrt")
    for _ in range(2):
        with Segmenter.load(bundle.path, provider="tensorrt", background="none") as segmenter:
            segmenter.set_classes("red")
    wanted = [sys.executable, "-m", "ovs_edge.calibration.build_cli", str(bundle.path), "--precision", "fp32"]
    assert commands == [wanted, wanted]
    assert capfd.readouterr().err.count("there is no plan of tiny in fp32") == 2
    with pytest.raises(OvsError, match="no precision 'fp16'"):
        Segmenter.load(bundle.path, "fp16", provider="tensorrt")
