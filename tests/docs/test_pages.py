"""README and documentation keep their word: commands and snippets run, figures come from result files."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer.main
from support.photos import write_index_masks

from ovs_edge.benchmarks.report.report import replaced

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="Python 3.10 has no tomllib, and tomli is not installed")

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]

# What makes a command long is cut down; everything else is as a reader would type it.
SHORTER = {"--steps": "2", "--runs": "3"}
CHEAPER = {
    "ovs-train": ["--batch", "2", "--crop", "64", "--view", "64", "--threads", "1", "--workers", "0"],
    "ovs-export": ["--size", "128x96", "--max-classes", "40"],
    "ovs-bench speed": ["--no-start"],
}


def blocks(page: str, language: str) -> list[str]:
    """Bodies of the fenced blocks of a page in one language: sh and python run here, console is only parsed."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: str, language: str) -> list[str]:
    """Lines of a page's blocks."""
    return [line for block in blocks(page, language) for line in block.strip().splitlines() if line]


BY_CI = [command for command in commands("README.md", "sh") if command.startswith("pip install")]
TOUR = [command for page in ("README.md", *PAGES) for command in commands(page, "sh") if command not in BY_CI]
PARSED = [
    command
    for page in ("README.md", *PAGES)
    for command in commands(page, "console")
    if command.startswith(("ovs-", "torchrun "))
]


def test_readme_is_one_page() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("page", ["README.md", "docs/benchmarks.md", "docs/guides/events.md"])
def test_figures_are_those_of_the_result_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert replaced(text, ROOT / "benchmarks" / "results") == text


def test_set_up_commands_are_those_that_ci_runs() -> None:
    assert len(BY_CI) == 2
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in BY_CI:
        for part in command.split(" && "):
            assert part.removeprefix("pip install ") in script, part


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the commands name."""
    folder = tmp_path_factory.mktemp("tour")
    write_index_masks(folder / "photos", photos=4)
    skimage = find_spec("skimage")
    assert skimage is not None and skimage.origin is not None
    photo = cv2.imread(str(Path(skimage.origin).parent / "data" / "coffee.png"))
    cv2.imwrite(str(folder / "photo.jpg"), photo)
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 120))
    for shift in range(4):
        writer.write(np.ascontiguousarray(np.roll(cv2.resize(photo, (160, 120)), 8 * shift, 1)))
    writer.release()
    (folder / "classes.txt").write_text("cup\nspoon\n")
    for name in ("labelme", "colours/JPEGImages", "colours/SegmentationClass"):
        (folder / name).mkdir(parents=True)
    (folder / "colours.txt").write_text("background: 0,0,0\ngrass: 40,180,40\n")
    for index in range(4):
        image = folder / "photos" / "images" / "train" / f"{index}.jpg"
        height, width = cv2.imread(str(image)).shape[:2]
        halves = (("grass", 2, width // 2), ("sky", width // 2, width - 2))
        shapes = [
            {"label": label, "shape_type": "rectangle", "points": [[left, 2], [right, height - 2]]}
            for label, left, right in halves
        ]
        labels = {"version": "5.4.1", "shapes": shapes, "imagePath": image.name}
        (folder / "labelme" / f"{index}.json").write_text(
            json.dumps({**labels, "imageHeight": height, "imageWidth": width})
        )
        mask = np.zeros((height, width, 3), np.uint8)
        mask[2:-2, 2 : width // 2] = 40, 180, 40
        cv2.imwrite(str(folder / "colours" / "SegmentationClass" / f"{index}.png"), mask)
        for target in ("labelme", "colours/JPEGImages"):
            shutil.copy(image, folder / target)
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in `folder` with this environment's scripts."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PATH": path},
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_commands_run_as_written(workplace: Path) -> None:
    """In order, since each command uses what earlier ones made; what a page repeats is run once."""
    named = {command.split()[0] for command in TOUR}
    assert named >= {"ovs-run", "ovs-train", "ovs-export", "ovs-bench", "ovs-data", "ovs-doctor"}
    for command in dict.fromkeys(TOUR):
        words = shlex.split(command)
        for option, value in SHORTER.items():
            if option in words:
                words[words.index(option) + 1] = value
        words += CHEAPER.get(words[0], CHEAPER.get(" ".join(words[:2]), []))
        done = run(words, workplace)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    made = ("photo_out.png", "clip_out.mp4", "clip.jsonl", "mine.png", "accuracy.json", "speed.json", "sheet.jpg")
    for name in made:
        assert (workplace / name).stat().st_size > 0, name
    for folder in ("photos-labelme", "photos-colours"):
        assert len(list((workplace / folder).glob("masks/*/*.png"))) == 4
    assert len((workplace / "clip.jsonl").read_text().splitlines()) == 4
    assert json.loads((workplace / "mini.ovs" / "manifest.json").read_text())["parity"]


@pytest.mark.parametrize("command", dict.fromkeys(PARSED))
def test_commands_that_need_a_device_are_well_formed(command: str) -> None:
    """Options exist and take what they are given; nothing is run."""
    name, *words = shlex.split(command)
    if name == "torchrun":
        name, *words = words[words.index("--no-python") + 1 :]
    parser = typer.main.get_command(import_module(SCRIPTS[name].split(":")[0]).app)
    assert parser.make_context(name, words) is not None


@pytest.mark.parametrize("page", [page for page in ("README.md", *PAGES) if blocks(page, "python")])
def test_python_snippets_run(page: str, workplace: Path) -> None:
    done = run([sys.executable, "-W", "error", "-c", "\n".join(blocks(page, "python"))], workplace)
    assert done.returncode == 0, done.stderr


def test_pictures_are_small_and_there() -> None:
    picture = ROOT / "docs" / "demo.jpg"
    assert picture.stat().st_size < 400_000
    image = cv2.imread(str(picture))
    assert image is not None and image.shape[1] >= 800


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_links_lead_somewhere(page: str) -> None:
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / page).read_text(encoding="utf-8")):
        assert (folder / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_modules_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    folders = "|".join(path.parent.name for path in ROOT.glob("*/__init__.py"))
    named = re.findall(rf"`((?:{folders}|docs|examples|scripts|tests)/[\w/.-]*)`", text)
    named += re.findall(rf"(?<![\w/])((?:{folders})/[\w/]+\.py)", text)
    examples = {"runtime/engines/brightness.py", "runtime/capture/noise.py"}  # what a reader would add
    for module in set(named) - examples:
        assert (ROOT / module).exists(), f"{page}: {module}"
    if page in ("docs/concepts/pipeline.md", "docs/concepts/vocabulary.md"):
        assert len(named) >= 4
