"""The README keeps its word: its commands run, its figures come from result files."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.photos import write_index_masks

from ovs_edge.benchmarks.report.report import replaced

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.strip().splitlines()]

# Run in full elsewhere: by the test that CI makes of the first command, and by CI itself.
BY_CI = [command for command in COMMANDS if command.startswith("pip install")]
# What makes a command long is cut down; everything else is as a reader would type it.
SHORTER = {"--steps": "2", "--runs": "3"}
CHEAPER = {"ovs-train": ["--batch", "2", "--crop", "64", "--view", "64", "--threads", "1", "--workers", "0"]}


def test_figures_are_those_of_the_result_files() -> None:
    assert replaced(README, ROOT / "benchmarks" / "results") == README


def test_set_up_commands_are_those_that_ci_runs() -> None:
    assert len(BY_CI) == 2
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in BY_CI:
        for part in command.split(" && "):
            assert part.removeprefix("pip install ") in script, part


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README's commands name."""
    folder = tmp_path_factory.mktemp("tour")
    write_index_masks(folder / "photos", photos=4)
    skimage = find_spec("skimage")
    assert skimage is not None and skimage.origin is not None
    shutil.copy(Path(skimage.origin).parent / "data" / "coffee.png", folder / "photo.png")
    photo = cv2.imread(str(folder / "photo.png"))
    cv2.imwrite(str(folder / "photo.jpg"), photo)
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    for shift in range(4):
        writer.write(np.ascontiguousarray(np.roll(cv2.resize(photo, (160, 120)), 8 * shift, 1)))
    writer.release()
    (folder / "classes.txt").write_text("cup\nspoon\n")
    return folder


@pytest.mark.timeout(900)
def test_the_tour_runs_as_written(workplace: Path) -> None:
    """In order, since each command uses what earlier ones made."""
    tour = [command for command in COMMANDS if command not in BY_CI]
    assert {command.split()[0] for command in tour} == {"ovs-run", "ovs-train", "ovs-export", "ovs-bench", "ovs-doctor"}
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for command in tour:
        words = shlex.split(command)
        for option, value in SHORTER.items():
            if option in words:
                words[words.index(option) + 1] = value
        if "--resume" in words:
            words[words.index("--steps") + 1] = SHORTER["--steps"]
        words += CHEAPER.get(words[0], [])
        done = subprocess.run(
            words, cwd=workplace, env=environment, check=False, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    for made in (
        "photo_out.png",
        "clip_out.mp4",
        "clip.jsonl",
        "mine.png",
        "accuracy.json",
        "speed.json",
    ):
        assert (workplace / made).stat().st_size > 0, made
    frames = [json.loads(line) for line in (workplace / "clip.jsonl").read_text().splitlines()]
    assert len(frames) == 4
    assert json.loads((workplace / "mini.ovs" / "manifest.json").read_text())["parity"]


def test_the_picture_is_small_and_there() -> None:
    picture = ROOT / "docs" / "demo.jpg"
    assert picture.stat().st_size < 400_000
    image = cv2.imread(str(picture))
    assert image is not None and image.shape[1] >= 800
