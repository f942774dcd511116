"""What a processor can do, and what is refused on one that cannot."""

from __future__ import annotations

import dataclasses
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_edge.bundle import processor as module
from ovs_edge.bundle.bundle import MANIFEST, Bundle
from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.manifest import Verdict
from ovs_edge.bundle.processor import cpu_quota, has_vnni, processor, usable_processors
from ovs_edge.runtime.engines.engine import EngineOptions
from ovs_edge.runtime.engines.registry import open_session
from ovs_edge.runtime.stopwatch import burst_times


@pytest.fixture
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stands in for /proc/cpuinfo."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(module, "_CPUINFO", path)
    has_vnni.cache_clear()
    yield path
    has_vnni.cache_clear()


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ("fpu avx2 avx512f avx512_vnni", "vnni"),
        ("fpu avx2 avx_vnni", "vnni"),
        ("fpu avx2 avx512f", "x86"),
        (None, "x86"),
    ],
)
def test_kinds_of_x86(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch, flags: str | None, kind: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\nprocessor\t: 1\nflags\t\t: none\n")
    assert processor() == kind


def test_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert processor() == "arm"


def test_full_range_weights_are_refused_without_vnni(cpuinfo: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "tiny.ovs"))
    verdict = Verdict(4, 1.0, 1.0, 0.97, 0.0, True, {}, needs="vnni")
    manifest = Bundle.open(bundle).manifest
    changed = dataclasses.replace(
        manifest,
        precisions={**manifest.precisions, "int8-cpu": manifest.precisions["fp32"]},
        verdicts={"int8-cpu": verdict},
    )
    (bundle / MANIFEST).write_text(changed.to_json())
    cpuinfo.write_text("flags : avx2\n")
    with pytest.raises(UsageError, match=r"made for processors with VNNI.*--cpu x86"):
        open_session(Bundle.open(bundle), EngineOptions("int8-cpu", 1))
    with open_session(Bundle.open(bundle, force=True), EngineOptions("int8-cpu", 1)):
        pass
    has_vnni.cache_clear()
    cpuinfo.write_text("flags : avx_vnni\n")
    with open_session(Bundle.open(bundle), EngineOptions("int8-cpu", 1)):
        pass


def test_bursts_take_turns_and_leave_out_their_first_runs() -> None:
    calls: list[str] = []
    times = burst_times([lambda: calls.append("a"), lambda: calls.append("b")], 3, untimed=1, burst=2)
    assert "".join(calls) == "aaabbb" * 3
    assert times.shape == (3, 2) and (times >= 0).all()
    assert burst_times([lambda: None], 9, enough=lambda done: done == 2).shape == (2, 1)


@pytest.mark.parametrize(
    ("files", "own", "quota"),
    [
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"a/cpu.max": "max 100000", "a/b/cpu.max": "50000 100000", "c/cpu.max": "1 100000"}, "0::/a/b", 0.5),
        ({"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 2),
        (
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "300000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            "4:cpu,cpuacct:/x",
            3,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/", None),
        ({"cpu.max": "nonsense"}, "nonsense", None),
        ({}, "0::/../../outside", None),
    ],
)
def test_a_container_s_quota(tmp_path: Path, files: dict[str, str], own: str, quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "own") == quota


def test_a_quota_cuts_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5, 6, 7})
    for quota, count in ((None, 8), (1.5, 2), (0.2, 1), (99, 8)):
        monkeypatch.setattr("ovs_edge.bundle.processor.cpu_quota", lambda quota=quota: quota)
        assert len(usable_processors()) == count
