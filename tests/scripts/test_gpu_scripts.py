"""The scripts of the GPU kit, as far as they can be checked without a GPU and without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("scripts/gpu-kit", "scripts/gpu-train")


def _run(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / script), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_sound(script: str) -> None:
    """They may be run, and shellcheck has nothing to say."""
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True, timeout=60)
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, str(ROOT / script)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_wheels_travel_in_parts(tmp_path: Path) -> None:
    """Cut, carried and joined, files are what they were; a damaged part is noticed."""
    large, small = os.urandom(2500), b"small"
    (tmp_path / "large-1.0-py3-none-any.whl").write_bytes(large)
    (tmp_path / "small-1.0-py3-none-any.whl").write_bytes(small)
    done = _run(SCRIPTS[0], "cut", tmp_path, PART_BYTES="1000")
    assert done.returncode == 0, done.stderr
    files = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert max(files.values()) == 1000
    assert sorted(files) == [
        "SHA256SUMS",
        *(f"large-1.0-py3-none-any.whl.part-a{letter}" for letter in "abc"),
        "small-1.0-py3-none-any.whl",
    ]
    done = _run(SCRIPTS[0], "join", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "large-1.0-py3-none-any.whl").read_bytes() == large
    assert (tmp_path / "small-1.0-py3-none-any.whl").read_bytes() == small
    (tmp_path / "large-1.0-py3-none-any.whl.part-ab").write_bytes(bytes(1000))
    done = _run(SCRIPTS[0], "join", tmp_path)
    assert done.returncode == 2
    assert "is missing or damaged; carry it again" in done.stderr


def test_wheels_hold_every_dependency() -> None:
    """Of the package itself: without one of them the installation fails where there is no network."""
    project = (ROOT / "pyproject.toml").read_text()
    needed = re.findall(
        r'^    "([A-Za-z0-9_-]+)', project[project.index("dependencies = [") :].split("]")[0], re.MULTILINE
    )
    assert "numpy" in needed
    packages = (ROOT / "scripts/gpu-kit").read_text().split("local packages=(")[1].split(")")[0].split()
    assert not set(needed) - set(packages)


@pytest.mark.parametrize(("cuda", "runtime"), [("12", "==1.23.2"), ("13", ">=1.27")])
def test_the_runtime_matches_cuda(cuda: str, runtime: str, tmp_path: Path) -> None:
    """The list of wheels names the build for the CUDA of the GPU machine, and its Python."""
    done = _run(SCRIPTS[0], "--dry-run", "wheels", tmp_path / "wheels", CUDA=cuda, PYTHON="3.10")
    assert done.returncode == 0, done.stderr
    assert f"onnxruntime-gpu[cuda,cudnn]{runtime}" in done.stderr
    assert "--python-version 3.10" in done.stderr
    assert not (tmp_path / "wheels").exists()


def test_training_is_continued(tmp_path: Path) -> None:
    """The command of ovs-train: the recipe on the GPU in BF16; with the state of an earlier run, from there."""
    (tmp_path / "data").mkdir()
    output = tmp_path / "out"
    done = _run(SCRIPTS[1], "--dry-run", output, f"{tmp_path}/data:2", "--", "--steps", 10)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"\+ ovs-train --data {tmp_path}/data:2 --output {output} .*--steps 10$", done.stderr.strip())
    assert "--device cuda --precision bf16" in done.stderr
    assert "--resume" not in done.stderr
    output.mkdir()
    (output / "training.pt").touch()
    done = _run(SCRIPTS[1], "--dry-run", output, tmp_path / "data")
    assert "--resume" in done.stderr
    assert f"continuing {output}" in done.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ("scripts/gpu-kit", (), "expected run, wheels, install, cut or join"),
        ("scripts/gpu-kit", ("install", "nowhere"), "no folder nowhere"),
        ("scripts/gpu-kit", ("wheels",), "takes one folder"),
        ("scripts/gpu-train", ("out",), "expected OUTPUT DATA"),
        ("scripts/gpu-train", ("out", "nowhere"), "no dataset folder nowhere"),
    ],
)
def test_impossible_requests_are_one_line(script: str, arguments: tuple[str, ...], words: str) -> None:
    """Exit code 2."""
    done = _run(script, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
