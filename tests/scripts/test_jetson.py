"""What sets a Jetson up, as far as it can be checked without one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ("scripts/jetson-setup", "scripts/jetson-table")
RELEASE = "# R{} (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n"


def _setup(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / SCRIPTS[0]), "--dry-run", *arguments],
        env={**os.environ, "JETSON_ROOT": str(root)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.fixture
def board(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(RELEASE.format(36))
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_sound(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True, timeout=60)
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, str(ROOT / script)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("release", "jetpack"), [(36, 6), (38, 7)])
def test_both_jetpacks(board: Path, release: int, jetpack: int) -> None:
    (board / "etc/nv_tegra_release").write_text(RELEASE.format(release))
    done = _setup(board)
    assert done.returncode == 0, done.stderr
    first, *commands = done.stdout.splitlines()
    assert first.startswith(f"JetPack {jetpack}:") and all(command.startswith("+ ") for command in commands)
    assert commands[-1] == "+ scripts/jetson-table"
    # JetPack's OpenCV must stay, and the power mode is the owner's.
    assert not re.search(r"\[[^]]*\b(cpu|window)\b", done.stdout)
    assert not re.search(r"nvpmodel|jetson_clocks", done.stdout)


def test_photos_are_passed_on(board: Path) -> None:
    assert _setup(board, str(board)).stdout.splitlines()[-1] == f"+ scripts/jetson-table {board}"


@pytest.mark.parametrize(
    ("release", "arguments", "words"),
    [
        (None, [], "this is no Jetson"),
        (32, [], "expected R36"),
        (36, ["--fast"], "no option --fast"),
        (36, ["nowhere"], "no folder nowhere"),
    ],
)
def test_other_machines_are_refused(board: Path, release: int | None, arguments: list[str], words: str) -> None:
    file = board / "etc/nv_tegra_release"
    file.unlink() if release is None else file.write_text(RELEASE.format(release))
    done = _setup(board, *arguments)
    assert done.returncode == 2 and words in done.stderr
    assert len(done.stderr.splitlines()) == 1 and "+" not in done.stdout


@pytest.mark.parametrize("jetpack", [6, 7])
def test_containers_install_what_exists(jetpack: int) -> None:
    text = (ROOT / f"containers/jetpack{jetpack}.Dockerfile").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    (extras,) = re.findall(r"'\.\[(.*)\]'", text)
    for extra in extras.split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra
    assert '"/src/scripts/jetson-table"' in text


def test_the_table_uses_options_that_exist() -> None:
    text = (ROOT / SCRIPTS[1]).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("ovs-")]
    assert len(lines) >= 4
    for line in lines:
        command, *words = line.split("||")[0].split()
        part = words[:1] if command == "ovs-bench" else []
        shown = subprocess.run(
            [command, *part, "--help"], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        for option in (word for word in words if word.startswith("-")):
            assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown), f"{command} {' '.join(part)} has no {option}"
