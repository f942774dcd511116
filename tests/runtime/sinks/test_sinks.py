"""Pictures, folders and JSON lines: what is there when, and what stays."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.sink_parts import Clip, asked, feed, writable

from ovs_edge.bundle.errors import SinkError, UsageError
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.sinks.desktop.display import missing
from ovs_edge.runtime.sinks.desktop.window import WindowSink
from ovs_edge.runtime.sinks.folder import FolderSink
from ovs_edge.runtime.sinks.json_lines import JsonSink
from ovs_edge.runtime.sinks.picture import PictureSink
from ovs_edge.runtime.sinks.registry import SUFFIXES, open_json_sink, open_sink
from ovs_edge.runtime.sinks.sink import Sink, SinkRequest
from ovs_edge.runtime.sinks.source_events import LossNotes, LossWatch
from ovs_edge.runtime.sinks.staging import InPlace, Staged
from ovs_edge.runtime.sinks.video_files.video_sink import VideoSink
from ovs_edge.runtime.status import Status


def test_the_name_chooses_the_kind(tmp_path: Path) -> None:
    photo = Clip()
    photo.total = 1
    kinds = {
        "a.mp4": VideoSink, "a.AVI": VideoSink, "a.jsonl": JsonSink, "out": FolderSink, "out/": FolderSink,
        "b.v2": FolderSink,
    }  # fmt: skip
    for name, kind in kinds.items():
        sink = open_sink(asked(f"{tmp_path}/{name}"))
        assert type(sink) is kind
        sink.close()
    sink = open_sink(SinkRequest(f"{tmp_path}/a.png", photo))
    assert type(sink) is PictureSink
    sink.close()
    for name, says in ((f"{tmp_path}/a.png", "is one picture"), ("", "empty"), (f"{tmp_path}/a.webm", "not written")):
        with pytest.raises(UsageError, match=says):
            open_sink(asked(name))
    assert list(tmp_path.iterdir()) == []


def test_a_sink_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def open_notes(request: SinkRequest) -> Sink:
        made.append(request.target)
        return LossNotes(made.append)

    monkeypatch.setitem(SUFFIXES, ".notes", open_notes)
    assert type(open_sink(asked(tmp_path / "a.notes"))) is LossNotes
    assert made == [str(tmp_path / "a.notes")]


def test_a_picture_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    for finish in (False, True):
        sink = PictureSink(tmp_path / "deep" / "er" / "out.png")
        feed(sink, 3)
        assert not (tmp_path / "deep" / "er" / "out.png").exists()
        if finish:
            sink.finish()
        sink.close()
        sink.close()
        assert [path.name for path in tmp_path.rglob("*.png")] == (["out.png"] if finish else [])
    assert [path.name for path in (tmp_path / "deep" / "er").iterdir()] == ["out.png"]


def test_pictures_and_lines_are_there_as_they_are_made(tmp_path: Path) -> None:
    for make, found in (
        (lambda: FolderSink(tmp_path / "made" / "out", "jpg"), lambda: len(os.listdir(tmp_path / "made" / "out"))),
        (
            lambda: JsonSink(str(tmp_path / "made" / "a.jsonl")),
            lambda: (tmp_path / "made" / "a.jsonl").read_text().count("}]}\n"),
        ),
    ):
        sink = make()
        for index in range(5):
            feed(sink, index)
            assert found() == index + 1
        sink.close()  # without `finish`, as after an error
        sink.close()
        assert found() == 5
        assert [path for path in (tmp_path / "made").rglob(".*")] == []
        shutil.rmtree(tmp_path / "made")
        sink = make()
        sink.close()
        assert list(tmp_path.iterdir()) == []


def test_json_lines(tmp_path: Path) -> None:
    sink = JsonSink(str(tmp_path / "out.jsonl"))
    feed(sink, 0)
    feed(sink, 1)
    sink.finish()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[1] == {
        "index": 1,
        "time": 0.1,
        "name": "clip_000001",
        "width": 64,
        "height": 48,
        "classes": [
            {
                "class": "dög",
                "share": 0.065104,
                "box": [0, 0, 20, 10],
                "confidence": 0.5,
                "parts": [{"share": 0.065104, "box": [0, 0, 20, 10], "centroid": [9.5, 4.5], "confidence": 0.5}],
            }
        ],
    }


def test_a_camera_that_is_lost_and_comes_back(tmp_path: Path) -> None:
    told: list[str] = []
    json_sink, notes = JsonSink(str(tmp_path / "out.jsonl")), LossNotes(told.append)
    for sink in (json_sink, notes):
        feed(sink, 0)
        for _ in range(3):
            sink.idle(None, Status(source="lost: camera 0 stopped sending frames; reconnecting in 2 s"))
        feed(sink, 1)
        sink.idle(None, Status())
        sink.finish()
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line.get("event") for line in lines] == [None, "lost", "recovered", None]
    assert lines[1]["reason"] == "camera 0 stopped sending frames"
    assert lines[1]["index"] == 0
    assert 0 <= lines[1]["time"] <= lines[2]["time"] < 5
    assert lines[2]["seconds"] >= 0
    assert [text.split()[3] for text in told] == ["lost:", "back"]


def test_a_frame_that_was_on_its_way_when_its_camera_was_lost_is_no_recovery() -> None:
    watch, image = LossWatch(), np.zeros((4, 4, 3), np.uint8)
    on_its_way = Frame(image, 1, 0.1, "live_000001")
    assert watch.idle(Status(source="lost: it hangs")) is not None
    assert watch.frame(on_its_way) is None
    assert watch.idle(Status(source="lost: it hangs")) is None
    back = watch.frame(Frame(image, 2, 0.2, "live_000002"))
    assert back is not None
    assert (back["event"], back["index"]) == ("recovered", 1)


def test_an_earlier_file_is_replaced_by_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for count in (3, 1):
        sink = JsonSink(str(path))
        before = path.read_bytes()
        for index in range(count):
            feed(sink, index)
        sink.finish()
        assert len(path.read_bytes().splitlines()) == count
    sink = JsonSink(str(path))
    sink.close()  # a run that failed before its first frame
    assert path.read_bytes().splitlines() == before.splitlines()[:1]


def test_a_link_keeps_pointing(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    sink = JsonSink(str(tmp_path / "link.jsonl"))
    feed(sink, 0)
    sink.finish()
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real.jsonl").read_text().startswith("{")


def test_lines_through_a_named_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    sink = JsonSink(str(tmp_path / "pipe"))
    feed(sink, 0)
    sink.finish()
    reader.join(10)
    assert json.loads(got[0])["index"] == 0


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.jsonl").mkdir()
    for make in (
        lambda: JsonSink(str(tmp_path / "file" / "out.jsonl")),
        lambda: JsonSink(str(tmp_path / "folder.jsonl")),
        lambda: JsonSink("/proc/none/out.jsonl"),
        lambda: open_json_sink(asked(tmp_path / "nul\0.jsonl")),
        lambda: VideoSink(tmp_path / "file" / "out.mp4", 10),
        lambda: VideoSink(tmp_path / "folder.mp4", 10),
        lambda: VideoSink(tmp_path / "folder.mp4", 10, live=True),
        lambda: FolderSink(tmp_path / "file", "jpg"),
        lambda: open_sink(asked(tmp_path / ("x" * 300))),
        lambda: open_sink(asked(tmp_path / "nul\0")),
    ):
        with pytest.raises(SinkError):
            make()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.jsonl", "folder.mp4"]


@pytest.mark.parametrize("name", ["out.mp4", "out.jsonl"])
def test_a_folder_that_is_deleted_on_the_way(tmp_path: Path, name: str) -> None:
    sink = open_sink(asked(tmp_path / "made" / name))
    feed(sink, 0)
    shutil.rmtree(tmp_path / "made")
    with pytest.raises(SinkError, match=r"cannot write .*No such file"):
        feed(sink, 1)
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_device() -> None:
    sink = JsonSink("/dev/full")
    with pytest.raises(SinkError, match=r"No space left.*free some space"):
        feed(sink, 0)
    sink.close()


@pytest.fixture
def little_space() -> Iterator[None]:
    """No file may grow past 64 KiB: the system answers a write beyond as it answers one to a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_on_a_disk_that_fills_up_stay_whole(tmp_path: Path, little_space: None) -> None:
    sink = JsonSink(str(tmp_path / "out.jsonl"))
    done = 0
    with pytest.raises(SinkError, match=r"cannot write.*free some space"):
        for done in range(2000):
            feed(sink, done)
    sink.close()
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == done
    assert json.loads(lines[-1])["index"] == done - 1


def test_pictures_on_a_disk_that_fills_up_stay(tmp_path: Path, little_space: None) -> None:
    sink = open_sink(asked(tmp_path / "out"))
    feed(sink, 0)
    with pytest.raises(SinkError, match=r"cannot write.*free some space"):
        feed(sink, 1, (480, 640), noise=True)
    sink.close()
    assert os.listdir(tmp_path / "out") == ["clip_000000.jpg"]


def test_partial_files_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    living = Staged(tmp_path / "out.png")
    other = Staged(tmp_path / "other.png")
    left = [tmp_path / name for name in (".out.1234.partial.png", ".out.0badcafe.partial.png", ".other.1.partial.png")]
    unrelated = tmp_path / ".out.partial.png"
    for path in (*left, unrelated, living.work):
        path.touch()
    again = Staged(tmp_path / "out.png")
    assert [path.exists() for path in (*left, unrelated, living.work, other.work)] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]
    again.work.write_bytes(b"again")
    again.commit()
    living.discard()
    living.discard()
    other.discard()
    assert (tmp_path / "out.png").read_bytes() == b"again"
    assert not living.work.exists()


def test_a_process_that_is_killed_blocks_no_other(tmp_path: Path) -> None:
    """As in a container, where each process has number 1: names do not depend on it."""
    code = (
        "import os, sys; from pathlib import Path; os.getpid = lambda: 1\n"
        "from ovs_edge.runtime.sinks.staging import Staged\n"
        "Staged(Path(sys.argv[1])); os.kill(os.getppid() and __import__('posix').getpid(), 9)"
    )
    for _ in range(2):  # the second removes what the first left, however young
        ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "cam.mp4")], capture_output=True, check=False)
        assert ran.returncode == -9, ran.stderr
        assert len(list(tmp_path.iterdir())) == 1
    Staged(tmp_path / "cam.mp4").discard()
    assert list(tmp_path.iterdir()) == []


def test_a_file_taken_for_a_stale_one_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process removes stale files between the two steps."""
    real, calls = fcntl.flock, 0

    def late(handle: int, how: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            for path in tmp_path.iterdir():
                path.unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    staged = Staged(tmp_path / "out.png")
    staged.work.write_bytes(b"x")
    staged.commit()
    assert calls == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_two_writers_of_one_live_file(tmp_path: Path) -> None:
    first = InPlace(tmp_path / "cam.mp4")
    with pytest.raises(SinkError, match="by another process"):
        InPlace(tmp_path / "cam.mp4")
    first.discard()
    assert list(tmp_path.iterdir()) == []
    InPlace(tmp_path / "cam.mp4").discard()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    young, old = tmp_path / ".out.1.partial.png", tmp_path / ".out.2.partial.png"
    for path in (young, old):
        path.touch()
    os.utime(old, (time.time() - 60,) * 2)
    staged = Staged(tmp_path / "out.png")
    staged.work.write_bytes(b"x")
    staged.commit()
    assert (tmp_path / "out.png").read_bytes() == b"x"
    assert (young.exists(), old.exists()) == (True, False)  # only its age tells that nobody writes it


def test_no_window_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert missing() is not None
    with pytest.raises(SinkError, match="--no-show"):
        WindowSink(None, wait=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "suffix", [".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".tif", ".ppm", ".jp2", writable(".avif")]
)
def test_a_picture_in_any_format_is_read_back(tmp_path: Path, suffix: str) -> None:
    from ovs_edge.runtime.capture.photos import read_photo

    sink = PictureSink(tmp_path / f"out{suffix}")
    feed(sink, 20)
    sink.finish()
    assert abs(read_photo(tmp_path / f"out{suffix}").mean() - 100) < 3
    assert cv2.imread(str(tmp_path / f"out{suffix}")).shape == (48, 64, 3)
