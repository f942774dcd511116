"""`ovs-run` from its options to its exit code: several sources, skipped photos, outputs that are kept, odd streams."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.clips import cut, damage, write_clip

from ovs_edge.bundle.errors import SourceError, UsageError
from ovs_edge.runtime.cameras.run import from_options
from ovs_edge.runtime.capture.registry import open_source
from ovs_edge.runtime.cli import main
from ovs_edge.runtime.options import RunOptions

COMMAND = [sys.executable, "-c", "from ovs_edge.runtime.cli import main; main()"]


def picture(path: Path, colour: int = 2) -> Path:
    """A photo that the tiny bundle calls red, green or blue (colour 2, 1, 0)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., colour] = 255
    cv2.imwrite(str(path), image)
    return path


@pytest.fixture
def ovs_run(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def run(*arguments: object) -> tuple[object, str, str]:
        words = ["ovs-run", *map(str, arguments), "--model", str(tiny_bundle), "--classes", "red,green", "--no-show"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return ended.value.code, out, err

    return run


def test_a_folder_with_a_bad_photo_is_finished_and_told(ovs_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for index in range(4):
        picture(tmp_path / "in" / f"{index}.png")
    cut(tmp_path / "in" / "2.png", 0.5)
    code, out, err = ovs_run(tmp_path / "in", "--save", tmp_path / "out", "--json", tmp_path / "a.jsonl")
    assert (code, err.count("\n")) == (3, 1)
    assert "skipped: " in err
    assert "2.png" in err
    assert "3 frames, 1 skipped" in out
    assert sorted(os.listdir(tmp_path / "out")) == ["0.png", "1.png", "3.png"]
    assert [json.loads(line)["name"] for line in (tmp_path / "a.jsonl").read_text().splitlines()] == ["0", "1", "3"]
    assert ovs_run(tmp_path / "in", "--save", tmp_path / "out", "--skip-errors")[0] == 0


def test_two_photos_of_one_name_have_two_outputs(ovs_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first, second = picture(tmp_path / "1" / "img.png"), picture(tmp_path / "2" / "img.png", 1)
    code, out, _ = ovs_run("--source", first, second, "--save", tmp_path / "out", "--json", "-")
    names = [json.loads(line)["name"] for line in out.splitlines()]
    assert code == 0
    assert (
        [f"{name}.png" for name in names] == sorted(os.listdir(tmp_path / "out")) == ["1_img_png.png", "2_img_png.png"]
    )


def test_a_photo_without_outputs_is_described(ovs_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, err = ovs_run(picture(tmp_path / "photo.png"))
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("photo: red 100.0% (confidence ")
    code, out, err = ovs_run(picture(tmp_path / "photo.png"), "--json", "-")
    assert "nothing saved" not in out + err
    assert "JSON lines on standard output" in err


def test_outputs_of_others_are_kept(ovs_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    photo = picture(tmp_path / "photo.png")
    (tmp_path / "mine.jsonl").write_text("my notes")
    code, _, err = ovs_run(photo, "--json", tmp_path / "mine.jsonl")
    assert (code, (tmp_path / "mine.jsonl").read_text()) == (2, "my notes")
    assert "--overwrite" in err
    assert ovs_run(photo, "--json", tmp_path / "mine.jsonl", "--overwrite")[0] == 0
    before = photo.read_bytes()
    for option in ("--save", "--json"):
        code, _, err = ovs_run(photo, option, photo, "--overwrite")
        assert (code, photo.read_bytes()) == (2, before)
        assert "is the input" in err
    outputs = ("--save", "--json", "--save-masks", "--save-classes", "--events")
    for one, other in itertools.pairwise(outputs):
        code, _, err = ovs_run(photo, one, tmp_path / "b.npz", other, f"{tmp_path}/./b.npz")
        assert (code, "two names" in err) == (2, True)
    assert ovs_run(photo, "--save-classes", tmp_path / "x.txt")[0] == 2


def test_whatever_is_read_is_kept(ovs_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    photo = picture(tmp_path / "photo.png")
    for name in ("example.png", "mask.png"):
        picture(tmp_path / name)
    for name in ("zones.toml", "preset.txt"):  # empty ones would count as outputs of an earlier run
        (tmp_path / name).write_text("")
    read = ("--zones", "zones.toml", "--preset", "@preset.txt", "--example", "mug=example.png#mask.png")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for option, name in [
        ("--json", "zones.toml"), ("--events", "zones.toml"), ("--json", "preset.txt"), ("--save", "example.png"),
        ("--save", "mask.png"), ("--save-masks", "."), ("--events", "photo.png"), ("--events", "mask.png"),
    ]:  # fmt: skip
        code, _, err = ovs_run(photo, *read, option, name, "--overwrite")
        assert (code, len(err.splitlines())) == (2, 1), err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damaged_and_cut_videos_are_told(ovs_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    clip = damage(write_clip(tmp_path / "clip.mp4"), 3)
    code, out, err = ovs_run(clip, "--json", "-")
    assert (code, len(out.splitlines())) == (3, 19)
    assert "1 frame of" in err
    short = cut(write_clip(tmp_path / "short.mp4", options={"movflags": "+faststart"}), 0.7)
    code, out, err = ovs_run(short, "--save", tmp_path / "out.mp4")
    assert code == 3
    assert "is cut short" in err
    assert (tmp_path / "out.mp4").is_file()
    assert ovs_run(short, "--json", "-", "--skip-errors")[0] == 0


def _started(*arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_complete_outputs(tiny_bundle: Path, tmp_path: Path, stop: int) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [index / 20 for index in range(400)])
    lines = tmp_path / "out.jsonl"
    arguments = [str(clip), "--model", str(tiny_bundle), "--classes", "red", "--json", str(lines), "--keyframes", "1"]
    with _started(*arguments, "--save", str(tmp_path / "out.mp4"), stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (lines.exists() and lines.stat().st_size > 500):
            time.sleep(0.01)
        process.send_signal(stop)
        process.communicate(timeout=60)
    assert process.returncode == 128 + stop
    count = len([json.loads(line) for line in lines.read_text().splitlines()])
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == count
    capture.release()


@pytest.mark.parametrize("stdout", ["closed", "full", "latin-1", "reader leaves"])
def test_whatever_becomes_of_standard_output(tiny_bundle: Path, tmp_path: Path, stdout: str) -> None:
    clip = write_clip(tmp_path / "猫.mp4", [index / 10 for index in range(60)])
    arguments = [str(clip), "--model", str(tiny_bundle), "--classes", "red,猫", "--json", "-"]
    line = " ".join(f"'{word}'" for word in [*COMMAND, *arguments]).replace("'-c' '", "'-c' '")
    shell = {"closed": f"{line} >&-", "full": f"{line} >/dev/full", "latin-1": f"{line} | tail -1",
             "reader leaves": f"{line} | head -1; exit ${{PIPESTATUS[0]}}"}[stdout]  # fmt: skip
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    ran = subprocess.run(["bash", "-c", shell], capture_output=True, env=environment, check=False, timeout=120)
    error = ran.stderr.decode()
    assert "Traceback" not in error
    assert "Exception ignored" not in error
    if stdout in ("closed", "full"):
        assert ran.returncode == 2
        assert [text[:6] for text in error.splitlines() if not text.startswith("note")] == ["error:"]
    elif stdout == "latin-1":
        assert json.loads(ran.stdout.decode("utf-8"))["name"] == "猫_000059"
    else:
        assert ran.returncode in (0, 141)


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2>/dev/null"])
@pytest.mark.parametrize(
    "arguments", ["photo.png --classes red --json out.jsonl", "none.png --classes red", "--no-such"]
)
def test_the_exit_code_does_not_depend_on_standard_error(
    tiny_bundle: Path, tmp_path: Path, arguments: str, stderr: str
) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((20, 20, 3), np.uint8))
    line = " ".join(f"'{word}'" for word in [*COMMAND, "--model", str(tiny_bundle)])
    shell = f"{line} {arguments} >/dev/full {stderr}"
    assert subprocess.run(["bash", "-c", shell], cwd=tmp_path, check=False, timeout=120).returncode == 2


@pytest.mark.parametrize("output", [b"out\xff/", b"out\xff.png", b"out\xff.jsonl"])
def test_a_name_that_is_not_utf8_is_shown_in_one_way(tiny_bundle: Path, tmp_path: Path, output: bytes) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), np.zeros((20, 20, 3), np.uint8))
    line = [*COMMAND, "photo.png", "--model", str(tiny_bundle), "--classes", "red"]
    option = "--json" if output.endswith(b"jsonl") else "--save"
    ran = subprocess.run([*line, option, output], cwd=tmp_path, capture_output=True, check=False, timeout=120)
    shown = output.decode("ascii", "backslashreplace")
    assert ran.returncode == 0
    assert ran.stdout.decode().rstrip().endswith(f": {shown}")
    assert os.path.exists(os.path.join(os.fsencode(tmp_path), output))
    mine = b"mine" + output.rstrip(b"/")
    with open(os.path.join(os.fsencode(tmp_path), mine), "wb") as stream:
        stream.write(b"of the user")
    ran = subprocess.run([*line, option, mine], cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert ran.returncode == 2
    assert f"mine{shown.rstrip('/')}" in ran.stderr.decode()


def test_a_camera_whose_name_is_not_utf8() -> None:
    source = "http://127.0.0.1:1/x"
    with pytest.raises(UsageError, match=r"the camera 'do\\xffor' is not UTF-8"):
        from_options(RunOptions(classes="cat", camera=(f"do\udcffor={source}", f"b={source}")))
    with pytest.raises(SourceError, match=r"the camera's name 'do\\xffor' is not UTF-8; leave it out"):
        open_source(None, f"do\udcffor={source}")
    with pytest.raises(SourceError, match="the camera's name 'door' is not needed"):
        open_source(None, "door=0")


def test_a_source_beside_several_cameras_is_refused() -> None:
    with pytest.raises(UsageError, match="'a.jpg' is given besides --camera"):
        RunOptions(source="a.jpg", classes="cat", camera=("0", "1"))
