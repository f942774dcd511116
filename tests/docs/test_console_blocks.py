"""`console` blocks of README and docs, run for real: a clip stands for a camera, training is cut down to a few steps.

What a test cannot run (root, a GPU, a download, another machine) is listed with its reason; a command that is in neither
list fails, so a new block has to be placed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.photos import write_index_masks

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
TUTORIAL = "docs/guides/tutorial-own-data.md"  # test_tutorial.py

NOT_RUN = {
    "pip install": "CI installs the package itself",
    "sudo ": "changes the machine",
    "journalctl ": "needs the service",
    "docker ": "needs a container engine",
    "ovs-export fcclip_r50.pth": "the checkpoint is downloaded by hand",
    "ovs-run --model fcclip_r50.ovs": "the checkpoint is downloaded by hand",
    "ovs-export --clip ViT-B-16/openai": "the weights are downloaded",
    "ovs-run --model clip.ovs": "the weights are downloaded",
    "ovs-train --data photos --teacher clip-dense:": "the weights are downloaded",
    "ovs-train --data photos --photos unlabelled --pseudo clip-dense:": "the weights are downloaded",
    "ovs-bench accuracy --recipe published": "weights and data set are downloaded",
    "ovs-run --provider cuda": "needs a GPU",
    "ovs-build ": "needs TensorRT",
    "ovs-run --model mini.ovs --precision fp16 --provider tensorrt": "needs TensorRT",
    "ovs-label s3://": "needs a bucket; see tests/data and tests of remote files",
    "ovs-bench gpu": "run by the tests of the GPU kit",
}
# What stands for a device or makes a command short; everything else is as a reader would type it.
INSTEAD = {
    "door=rtsp://192.168.1.20/stream": "door=clip.mp4",
    "yard=0": "yard=clip.mp4",
    "cuda": "cpu",
}
CAMERA = ["--camera", "0"]
OPTIONS = {"--steps": "2", "--nproc_per_node": "2"}
TRAIN = ["--batch", "2", "--crop", "64", "--view", "64", "--threads", "1", "--workers", "0", "--steps", "2"]
CHEAPER = {"ovs-train": TRAIN, "torchrun": TRAIN, "ovs-export": ["--size", "128x96", "--max-classes", "40"]}
SERVERS = ("--web", "ovs-serve")


def _commands() -> list[tuple[str, str]]:
    """(page, command) of every console block but the tutorial's, comments taken off."""
    found = []
    for page in PAGES:
        if page == TUTORIAL:
            continue
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found += [(page, line.split("  #")[0].strip()) for line in block.splitlines() if line.strip()]
    return list(dict.fromkeys(found))


def _reason(command: str) -> str:
    """Why a command is not run; empty for one that is."""
    return next((reason for start, reason in NOT_RUN.items() if command.startswith(start)), "")


RUN = [(page, command) for page, command in _commands() if not _reason(command)]


def test_every_reason_belongs_to_a_command() -> None:
    commands = [command for _, command in _commands()]
    unused = [start for start in NOT_RUN if not any(command.startswith(start) for command in commands)]
    assert not unused, unused
    assert len(RUN) >= 20


def _photo(name: str) -> np.ndarray:
    skimage = pytest.importorskip("skimage", reason="scikit-image is not installed")
    photo = cv2.imread(str(Path(skimage.__file__).parent / "data" / name))
    assert photo is not None
    return photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands of all pages name."""
    root = tmp_path_factory.mktemp("console")
    for name in ("photos", "voc", "people"):
        write_index_masks(root / name, photos=4)
    for name in ("coco_things", "coco_panoptic", "msrc", "camvid", "voc"):
        write_index_masks(root / "data" / name, photos=4)
    split = root / "benchmarks" / "examples" / "split.json"  # of the checkout, with a name of these photos
    split.parent.mkdir(parents=True)
    split.write_text(json.dumps({"unseen": ["brick wall"], "reserved": {}}))
    coffee, cat = _photo("coffee.png"), _photo("chelsea.png")
    for name in ("photo.jpg", "photo1.jpg", "photo2.jpg", "photo3.jpg", "shots/a.jpg", "more/b.jpg", "archive/x/c.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), coffee)
    mask = np.zeros(coffee.shape[:2], np.uint8)
    mask[100:300, 200:420] = 255
    cv2.imwrite(str(root / "mask.png"), mask)
    with zipfile.ZipFile(root / "holiday.zip", "w") as packed:
        cv2.imwrite(str(root / "d.jpg"), cat)
        packed.write(root / "d.jpg", "day/d.jpg")
        (root / "d.jpg").unlink()
    writer = cv2.VideoWriter(str(root / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 240))
    for shift in range(12):
        writer.write(np.ascontiguousarray(np.roll(cv2.resize(coffee, (320, 240)), 8 * shift, 1)))
    writer.release()
    (root / "classes.txt").write_text("cup\nspoon\n")
    (root / "zones.toml").write_text("[zones.door]\npoints = [[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]]\n")
    return root


def _words(command: str) -> list[str]:
    words = [INSTEAD.get(word, word) for word in shlex.split(command)]
    for index in range(len(words) - 1):
        if words[index : index + 2] == CAMERA:
            words[index : index + 2] = ["--source", "clip.mp4"]
    for option, value in OPTIONS.items():
        if option in words:
            words[words.index(option) + 1] = value
    more = CHEAPER.get(words[0], [])
    return words + [word for pair in zip(more[::2], more[1::2], strict=True) for word in pair if pair[0] not in words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _expanded(words: list[str], folder: Path) -> list[str]:
    """`*` as a shell would expand it."""
    found = [
        [path.relative_to(folder).as_posix() for path in sorted(folder.glob(word))] if "*" in word else [word]
        for word in words
    ]
    return [word for group in found for word in group]


def _run(command: str, folder: Path) -> None:
    words = _expanded(_words(command), folder)
    done = subprocess.run(
        words, cwd=folder, env=_environment(), check=False, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}\n{shlex.join(words)}\n{done.stdout}\n{done.stderr}"


def _run_server(command: str, requests: list[str], folder: Path) -> None:
    """Start a server, send it the page's own requests, and end it as Ctrl-C does."""
    server = subprocess.Popen(
        _words(command), cwd=folder, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            health = subprocess.run(["curl", "-sf", "http://127.0.0.1:8080/"], check=False, capture_output=True)
            if health.returncode in (0, 22):  # 22: it answers, and has no such page
                break
            assert server.poll() is None and time.monotonic() < deadline, f"{command}: no server"
            time.sleep(0.5)
        for request in requests:
            done = subprocess.run(
                ["curl", "-f", "--retry", "20", "--retry-all-errors", *shlex.split(request)[1:]],
                cwd=folder, check=False, capture_output=True, text=True, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, f"{request}\n{done.stdout}\n{done.stderr}"
    finally:
        server.send_signal(signal.SIGINT)
        try:
            output, _ = server.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            raise
    assert server.returncode in (0, 130), output


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", list(dict.fromkeys(page for page, _ in RUN)))
def test_console_blocks_run(page: str, folder: Path, tmp_path: Path) -> None:
    """In the order of the page; what earlier commands made is there for the later ones."""
    commands = [command for found, command in RUN if found == page]
    place = tmp_path / "place"
    shutil.copytree(folder, place)
    if page == "docs/guides/train.md":
        _run("ovs-train --data photos --preset mini -o runs/a", place)
    if page == "docs/guides/label.md":
        (place / "photos").rename(place / "exported")
    if page == "docs/guides/quantize.md":
        _run("ovs-train --data photos --preset mini -o runs/mini", place)
        _run("ovs-export runs/mini/model.pt -o mini.ovs", place)
    requests = [command for command in commands if command.startswith("curl ")]
    if requests and not shutil.which("curl"):
        pytest.skip("curl is not installed")
    for command in commands:
        if command.startswith("curl "):
            continue
        if any(word in shlex.split(command) for word in SERVERS):
            _run_server(command, requests, place)
        else:
            _run(command, place)
