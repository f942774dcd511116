"""The console command, as a user runs it: on real photos, and on everything that can be wrong."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.sink_parts import played

from ovs_edge.runtime.capture.demo import DemoSource, photo_folder
from ovs_edge.runtime.cli import main
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.vocabulary.live import LiveVocabulary

COMMAND = [sys.executable, "-W", "error", "-c", "from ovs_edge.runtime.cli import main; main()"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}


def ovs_run(*arguments: object, limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limit,
        env={**ENVIRONMENT, "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"]},
    )


class InProcess:
    """The command within this process: quicker by its imports, with all that reaches the terminal's descriptors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        self._monkeypatch.setattr(sys, "argv", ["ovs-run", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            main()
        out, error = self._capfd.readouterr()
        return subprocess.CompletedProcess(
            sys.argv, exit.value.code if isinstance(exit.value.code, int) else 1, out, error
        )


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> InProcess:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    return InProcess(monkeypatch, capfd)


def painting(path: Path, height: int = 120, width: int = 160) -> Path:
    """Left half red, right half green."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (0, 0, 255)
    image[:, width // 2 :] = (0, 255, 0)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_painted_photo_by_the_numbers(tiny_bundle: Path, tmp_path: Path) -> None:
    photo = painting(tmp_path / "photo.png")
    ran = ovs_run(
        *("--model", tiny_bundle, "--source", photo, "--classes", "crimson|red,sky,grass"),
        *("--save", tmp_path / "out.png", "--json", tmp_path / "out.jsonl"),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.count("\n") == 1 and ran.stdout.startswith("1 frame, ") and "out.jsonl" in ran.stdout
    (line,) = lines(tmp_path / "out.jsonl")
    assert (line["index"], line["name"], line["width"], line["height"]) == (0, "photo", 160, 120)
    assert isinstance(line["classes"], list)
    assert [(found["class"], found["share"], found["box"]) for found in line["classes"]] == [
        ("crimson", 0.5, [0, 0, 80, 120]),
        ("grass", 0.5, [80, 0, 160, 120]),
    ]
    annotated = cv2.imread(str(tmp_path / "out.png"))
    assert annotated.shape == (120, 160, 3)


def test_a_real_photo_and_its_folder(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("coffee.png", "rocket.jpg", "camera.png"):  # the last is grey
        shutil.copy(photo_folder() / name, tmp_path / "photos")
    ran = ovs_run(
        *("--model", tiny_bundle, "--source", tmp_path / "photos", "--classes", "red,wall"),
        *("--save", tmp_path / "out", "--json", "-", "--max-frames", 3),
    )
    assert ran.returncode == 0
    found = {line["name"]: line for line in map(json.loads, ran.stdout.splitlines())}
    assert sorted(found) == ["camera", "coffee", "rocket"]
    # A grey photo is wall by its colour, all of it that is not black.
    assert [entry["class"] for entry in found["camera"]["classes"]] == ["wall"]
    assert found["camera"]["classes"][0]["share"] > 0.9
    assert sorted(os.listdir(tmp_path / "out")) == ["camera.png", "coffee.png", "rocket.png"]
    for name in found:
        original = cv2.imread(str(next((tmp_path / "photos").glob(f"{name}.*"))))
        annotated = cv2.imread(str(tmp_path / "out" / f"{name}.png"))
        assert annotated.shape == original.shape
        assert 2 < np.abs(annotated.astype(int) - original).mean() < 90
    assert "3 frames" in ran.stderr


def test_a_clip_becomes_a_clip(tiny_bundle: Path, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 12, (160, 120))
    for index in range(15):
        image = np.full((120, 160, 3), 128, np.uint8)
        image[:, : 10 * (index + 1)] = (0, 0, 255)
        writer.write(image)
    writer.release()
    ran = ovs_run(
        *("--model", tiny_bundle, "--source", tmp_path / "in.avi", "--classes", "red"),
        *("--save", tmp_path / "out.mp4", "--json", tmp_path / "out.jsonl"),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    shares = [line["classes"][0]["share"] for line in lines(tmp_path / "out.jsonl")]  # type: ignore[index]
    assert shares == pytest.approx([(index + 1) / 16 for index in range(15)], abs=0.03)
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (15, 12)
    capture.release()


def test_the_demo(tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ("--model", tiny_bundle, "--source", "demo", "--classes", "red,sky,🙂", "--threads", 1)
    ran = ovs_run(*arguments, "--save", tmp_path / "out.mp4", "--max-frames", 25)
    unreadable = "note: 🙂: the text encoder cannot read it; use English words\n"
    assert (ran.returncode, ran.stderr) == (0, unreadable)
    assert ran.stdout.startswith("25 frames, ")
    ran = ovs_run(*arguments, "--save", f"{tmp_path}/out")
    assert (ran.returncode, ran.stderr) == (0, unreadable)
    assert len(os.listdir(tmp_path / "out")) == DemoSource.total


def test_a_clip_from_a_camera_in_time(tiny_bundle: Path, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "camera.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 12, (640, 480))
    for _ in range(600):
        writer.write(np.full((480, 640, 3), 255, np.uint8))
    writer.release()
    ran = ovs_run(
        *("--model", tiny_bundle, "--camera", tmp_path / "camera.avi", "--classes", "wall"),
        *("--json", tmp_path / "out.jsonl", "--max-frames", 5),
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    indices = [line["index"] for line in lines(tmp_path / "out.jsonl")]
    assert len(indices) == 5 and indices == sorted(set(indices))  # type: ignore[type-var]


def test_an_interrupted_run_leaves_complete_outputs(tiny_bundle: Path, tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 12, (640, 480))
    for _ in range(600):
        writer.write(np.full((480, 640, 3), 255, np.uint8))
    writer.release()
    arguments = ("--model", tiny_bundle, "--source", tmp_path / "in.avi", "--classes", "wall")
    outputs = ("--save", tmp_path / "out.mp4", "--json", tmp_path / "out.jsonl")
    words = [*COMMAND, *map(str, arguments + outputs)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT) as process:
        deadline = time.monotonic() + 30
        growing = tmp_path / "out.jsonl"
        while time.monotonic() < deadline and not (growing.exists() and growing.stat().st_size > 1000):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, "")
    written = len(lines(tmp_path / "out.jsonl"))
    assert 1 <= written < 600 and out.startswith(f"{written} frame")
    assert len(played(tmp_path / "out.mp4")) == written


def _flip(bundle: Path) -> None:
    data = bytearray((bundle / "segmenter.onnx").read_bytes())
    data[100] ^= 1
    (bundle / "segmenter.onnx").write_bytes(data)


def _newer(bundle: Path) -> None:
    raw = json.loads((bundle / "manifest.json").read_text())
    raw["schema"] += 1
    (bundle / "manifest.json").write_text(json.dumps(raw))


def _not_a_graph(bundle: Path) -> None:
    from ovs_edge.bundle.bundle import sha256

    (bundle / "segmenter.onnx").write_bytes(b"no graph")
    raw = json.loads((bundle / "manifest.json").read_text())
    raw["digests"]["segmenter.onnx"] = sha256(bundle / "segmenter.onnx")
    (bundle / "manifest.json").write_text(json.dumps(raw))


def refused(ran: subprocess.CompletedProcess[str], says: str) -> None:
    assert ran.returncode == 2, ran
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: ") and ran.stderr.count("\n") == 1, ran.stderr
    assert says in ran.stderr


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_flip, "was altered"),
        (lambda bundle: (bundle / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (_newer, "update ovs-edge"),
        (_not_a_graph, "cannot load"),
        (shutil.rmtree, "no bundle at"),
    ],
)
def test_a_broken_bundle(
    in_process: InProcess, tiny_bundle: Path, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "copy.ovs"))
    damage(bundle)
    photo = painting(tmp_path / "photo.png")
    refused(in_process("--model", bundle, "--source", photo, "--classes", "red", "--save", tmp_path / "out.png"), says)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"--classes": ""}, "list of classes is empty"),
        ({"--classes": ",".join(f"name {n}" for n in range(10_000))}, "10000 classes"),
        ({"--classes": "x" * 5000}, "5000 characters"),
        ({"--classes": "@no-such-list"}, "cannot read the list"),
        ({"--background": "red"}, "as background"),
        ({"--threshold": "7"}, "threshold is 7"),
        ({"--opacity": "nan"}, "opacity is nan"),
        ({"--precision": "int8"}, "it has: fp32"),
        ({"--provider": "tpu"}, "expected auto, cpu, cuda, cuda-graphs or tensorrt"),
        ({"--camera": "0"}, "both of --source and --camera"),
        ({"--source": None}, "neither of --source and --camera"),
        ({"--source": None, "--camera": "97"}, "camera 97 does not open"),
        ({"--source": "text.mp4"}, "does not decode as a video"),
        ({"--source": "short.jpg"}, "is cut short"),
        ({"--source": "empty"}, "holds no photos"),
        ({"--source": "nowhere.png"}, "no such file"),
        ({"--save": "text.mp4/out.mp4"}, "cannot write"),
        ({"--save": "empty/"}, None),
        ({"--json": "empty"}, "is a folder"),
        ({"--json": "/dev/full"}, "No space left"),
        ({}, "cannot open a window"),
    ],
)
def test_bad_input(
    in_process: InProcess,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str | None],
    says: str | None,
) -> None:
    work = tmp_path / "work"
    (work / "empty").mkdir(parents=True)
    (work / "text.mp4").write_text("This is no video.\n" * 100)
    photo = painting(work / "photo.jpg")
    (work / "short.jpg").write_bytes(photo.read_bytes()[:-500])
    before = sorted(path.relative_to(work) for path in work.rglob("*"))
    arguments = {
        "--model": str(tiny_bundle),
        "--source": str(photo),
        "--classes": "red,Red,RED,green",
        "--save": "out",
        "--json": "out.jsonl",
        **options,
    }
    given = [word for name, value in arguments.items() if value is not None for word in (name, value)]
    monkeypatch.chdir(work)
    ran = in_process(*(["--show", *given] if says == "cannot open a window" else given))
    after = sorted(path.relative_to(work) for path in work.rglob("*"))
    if says == "No space left":  # the other output has got its picture by then
        after = [path for path in after if path not in (Path("out"), Path("out/photo.png"))]
    if says is None:
        assert (ran.returncode, ran.stderr) == (0, "")
        assert (work / "empty" / "photo.png").is_file()
        return
    refused(ran, says)
    assert after == before


@pytest.mark.parametrize("name", ["out.mp4", "out.png", "out", "out.jsonl"])
def test_a_disk_that_fills_up(tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    cv2.imwrite(str(tmp_path / "photo.png"), rng.integers(0, 256, (400, 400, 3), np.uint8))
    size = 4000 if name == "out.mp4" else 40  # bytes: room for the header, none for the picture
    target = ("--json" if name.endswith("jsonl") else "--save", tmp_path / "made" / name)
    ran = ovs_run(
        *("--model", tiny_bundle, "--source", tmp_path / "photo.png", "--classes", "wall"),
        *target,
        limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    refused(ran, "cannot write")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_a_disk_that_fills_up_in_the_middle_of_a_video(
    in_process: InProcess, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, asked = namedtuple("usage", "free"), []

    def filling(path: object) -> object:
        asked.append(path)
        return usage(2**30 if len(asked) <= 10 else 1000)

    monkeypatch.setattr("shutil.disk_usage", filling)
    options = ("--classes", "red", "--save", tmp_path / "made" / "out.mp4", "--json", tmp_path / "out.jsonl")
    refused(in_process("--model", tiny_bundle, "--source", "demo", *options), "MiB left on its disk")
    assert len(asked) == 11
    assert len(played(tmp_path / "made" / "out.mp4")) == 10 and len(lines(tmp_path / "out.jsonl")) == 10


def test_where_nothing_is_seen_that_is_said_first(in_process: InProcess, tiny_bundle: Path, tmp_path: Path) -> None:
    arguments = ("--model", tiny_bundle, "--source", painting(tmp_path / "photo.png"), "--classes", "red")
    assert (ran := in_process(*arguments)).returncode == 0 and "1 frame" in ran.stdout and ran.stderr == ""
    assert ran.stdout.startswith("photo: red 50.0% (confidence 0.") and "nothing saved (--save" in ran.stdout
    ran = in_process("--model", tiny_bundle, "--source", "demo", "--classes", "red", "--max-frames", "1")
    assert ran.stderr.count("\n") == 1 and "--web" in ran.stderr and "--save" in ran.stderr
    assert in_process(*arguments, "--json", tmp_path / "out.jsonl").stderr == ""


def test_a_watched_list_that_is_no_good_is_said(
    in_process: InProcess, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveVocabulary, "watch", lambda self, path, refused: refused("it is empty"))
    (tmp_path / "list.txt").write_text("red\n")
    arguments = ("--source", painting(tmp_path / "photo.png"), "--watch-classes", tmp_path / "list.txt")
    ran = in_process("--model", tiny_bundle, *arguments, "--json", tmp_path / "out.jsonl")
    assert (ran.returncode, ran.stderr) == (0, "note: the classes are unchanged: it is empty\n")


def test_unknown_options_exit_with_2_too(tiny_bundle: Path) -> None:
    for arguments in (("--no-such-option",), ("--source", "a.jpg"), ("--classes", "a", "--threads", "many")):
        ran = ovs_run(*arguments)
        assert ran.returncode == 2 and "Traceback" not in ran.stderr


def test_a_reader_that_leaves(tiny_bundle: Path) -> None:
    arguments = ("--model", str(tiny_bundle), "--source", "demo", "--classes", "red", "--json", "-")
    with subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
    assert error == b"" and process.returncode in (1, 141)  # typer has its own code for it


def test_help_is_quick() -> None:
    """Processor time, which a busy machine does not stretch; on an idle one it is all the time there is."""
    times = []
    for _ in range(3):
        before = os.times()
        ran = ovs_run("--help")
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert ran.returncode == 0 and "--classes" in ran.stdout
    print(f"ovs-run --help: {min(times):.2f} s")
    assert min(times) < 0.5


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'cv2', 'numpy', 'onnxruntime', 'tokenizers', 'ftfy'}"
    code = f"import sys, ovs_edge.runtime.cli; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
