"""`ovs-doctor`: useful where everything is there, and where everything is missing or broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ovs_edge.runtime import doctor
from ovs_edge.runtime.doctor import examine
from ovs_edge.runtime.engines import onnx_runtime, open_plan
from ovs_edge.runtime.engines.engine import Finding
from ovs_edge.runtime.engines.open_plan import TENSORRT

COMMAND = [sys.executable, "-W", "error", "-c", "from ovs_edge.runtime.doctor import main; main()"]


def _texts(findings: list[Finding], topic: str) -> str:
    return "\n".join(f"{found.text} -> {found.remedy}" for found in findings if found.topic == topic)


def test_the_command_says_what_is_here() -> None:
    ran = subprocess.run([*COMMAND, "--json"], capture_output=True, text=True, check=False, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    findings = [Finding(**entry) for entry in json.loads(ran.stdout)]
    assert {found.state for found in findings} <= {"ok", "note", "missing"}
    assert "FFmpeg YES" in _texts(findings, "OpenCV")
    assert "CPUExecutionProvider" in _texts(findings, "engines")
    assert "mini.ovs" in _texts(findings, "model")
    assert all("Traceback" not in found.text for found in findings)


def test_modules_that_crash_fail_or_hang_are_told_not_suffered(tmp_path: Path) -> None:
    """In the doctor's own process and its children alike, `cv2` dies and `onnxruntime` is broken."""
    (tmp_path / "cv2.py").write_text("import os; os.abort()")
    (tmp_path / "onnxruntime.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    (tmp_path / "tensorrt.py").write_text("import time; time.sleep(60)")
    code = "from ovs_edge.runtime import doctor; from ovs_edge.runtime.engines import engine; doctor.PATIENCE = 1.0; engine.PATIENCE = 1.0; doctor.main()"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "DISPLAY": ":77", "PATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120, env=environment
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "importing cv2 crashes (signal 6)" in ran.stdout and "ovs-edge[cpu]" in ran.stdout
    assert "libcudart.so.12" in ran.stdout
    assert "importing tensorrt takes longer" in ran.stdout
    assert "no NVIDIA GPU" in ran.stdout


def _imports(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], tuple[bool, str]]) -> None:
    """`answer(module)` stands in for every import in a child process."""
    for user in (doctor, onnx_runtime, open_plan):
        monkeypatch.setattr(user, "import_in_child", lambda module, code="": answer(module))


def test_a_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
        "proc/meminfo": "MemTotal:        7802884 kB\n",
        "var/lib/nvpmodel/status": "pmode:0002",
        "dev/video0": "",
        "dev/video10": "",
        "dev/video2": "",
        "sys/class/video4linux/video0/name": "vi-output, imx219 9-0010\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    _imports(monkeypatch, lambda module: (False, f"No module named {module!r}"))
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("video10"))
    findings = examine(tmp_path)
    system = _texts(findings, "system")
    assert "NVIDIA Jetson Orin Nano" in system and "7.4 GiB" in system and "R36 (release)" in system
    assert "power mode 2 -> sudo nvpmodel -m 0" in system
    cameras = _texts(findings, "cameras").splitlines()
    assert cameras[0].startswith("/dev/video0: vi-output, imx219") and "video2" in cameras[1]
    assert "may not open it -> sudo usermod" in cameras[2]
    assert "the Jetson's own" in _texts(findings, "GPU")


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"tensorrt": "10.3.0", "pycuda.driver": "2026.1"}, "pycuda 2026.1: TensorRT plans can run -> None"),
        ({"tensorrt": "11.4.0"}, "TensorRT plans cannot run: No module named 'pycuda.driver' -> with the CUDA toolkit"),
        ({"tensorrt": "8.6.2"}, "tensorrt 8.6.2 -> plans need TensorRT 10 or newer"),
        ({"tensorrt_rtx": "1.7.1", "pycuda.driver": "2026.1"}, "tensorrt_rtx 1.7.1 -> None"),
    ],
)
def test_what_tensorrt_plans_need(monkeypatch: pytest.MonkeyPatch, answers: dict[str, str], says: str) -> None:
    missing = "No module named {!r}"
    _imports(monkeypatch, lambda module: (module in answers, answers.get(module) or missing.format(module)))
    assert says in "\n".join(f"{found.text} -> {found.remedy}" for found in TENSORRT.examine())


def test_two_packages_of_one_module_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: "1.0")
    build = "5.0.0\n  Video I/O:\n    FFMPEG:                      YES\n    GStreamer:                   YES (1.20.3)\n"
    texts = "\n".join(found.text for found in doctor._opencv(imported=True, build=build))
    assert "overwrite each other's cv2: opencv-python opencv-python-headless" in texts
    assert "GStreamer YES (1.20.3), windows NO" in texts and "without GStreamer" not in texts


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo 'NVIDIA RTX 4000, 550.54, 20475 MiB, 130.00 W'", "NVIDIA RTX 4000, 550.54"),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "version mismatch"),
    ],
)
def test_what_nvidia_smi_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert says in "\n".join(found.text for found in doctor._gpu(tmp_path))


def test_a_probe_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(root: Path) -> None:
        raise RuntimeError("surprise")

    _imports(monkeypatch, lambda module: (False, "none"))
    monkeypatch.setattr(doctor, "_cameras", broken)
    findings = examine()
    assert "could not be examined (RuntimeError: surprise)" in _texts(findings, "cameras")
    assert _texts(findings, "GPU") and _texts(findings, "model")
