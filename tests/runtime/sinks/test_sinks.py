"""Outputs: complete, or not there at all."""

from __future__ import annotations

import json
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ovs_edge.bundle.errors import SinkError, UsageError
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.inference.prediction import Prediction
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.sinks.desktop.window import WindowSink, missing
from ovs_edge.runtime.sinks.folder import FolderSink
from ovs_edge.runtime.sinks.json_lines import JsonSink
from ovs_edge.runtime.sinks.picture import PictureSink
from ovs_edge.runtime.sinks.registry import open_sink
from ovs_edge.runtime.sinks.sink import Sink
from ovs_edge.runtime.sinks.video_files.video_sink import VideoSink
from ovs_edge.runtime.status import PLAYING, Status


class Clip:
    """A source by its description only."""

    name = "clip"
    total: int | None = 30
    fps = 10.0
    live = False
    moving = True
    state = PLAYING
    dropped = 0

    def __iter__(self) -> Iterator[Frame]:
        return iter(())

    def close(self) -> None:
        pass


def feed(sink: Sink, index: int, size: tuple[int, int] = (48, 64), noise: bool = False) -> bool:
    rng = np.random.default_rng(index)
    picture = rng.integers(0, 256, (*size, 3), np.uint8) if noise else np.full((*size, 3), 5 * index % 250, np.uint8)
    labels = np.full(size, -1, np.int32)
    labels[:10, :20] = 1
    frame = Frame(picture, index, index / 10, f"clip_{index:06d}")
    return sink.write(frame, Prediction(labels, np.full(size, 0.5, np.float32), ("cat", "dög")), picture, Status())


def test_the_name_chooses_the_kind(tmp_path: Path) -> None:
    photo = Clip()
    photo.total = 1
    kinds = {"a.mp4": VideoSink, "a.AVI": VideoSink, "out": FolderSink, "out/": FolderSink, "b.v2": FolderSink}
    for name, kind in kinds.items():
        sink = open_sink(f"{tmp_path}/{name}", Clip())
        assert type(sink) is kind
        sink.close()
    sink = open_sink(f"{tmp_path}/a.png", photo)
    assert type(sink) is PictureSink
    sink.close()
    with pytest.raises(UsageError, match="is one picture"):
        open_sink(f"{tmp_path}/a.png", Clip())
    with pytest.raises(UsageError, match="empty"):
        open_sink("", Clip())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.jsonl", "out.avi", "out.mp4", "deep/er/out.mp4", "folder", "deep/folder"])
def test_nothing_is_there_before_the_end_and_nothing_stays_without_it(tmp_path: Path, name: str) -> None:
    def sink() -> Sink:
        return JsonSink(str(tmp_path / name)) if name.endswith("jsonl") else open_sink(str(tmp_path / name), Clip())

    for finish in (False, True):
        opened = sink()
        for index in range(5):
            assert feed(opened, index)
        assert not (tmp_path / name).exists()
        if finish:
            opened.finish()
        opened.close()
        opened.close()
        assert (tmp_path / name).exists() == finish
        left = [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")]
        assert left == []
        if not finish:
            assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_a_video_plays_back(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    sink = VideoSink(tmp_path / f"out{suffix}", 10)
    for index in range(10):
        feed(sink, index, size)
    feed(sink, 10, (100, 40))
    sink.finish()
    capture = cv2.VideoCapture(str(tmp_path / f"out{suffix}"))
    means = []
    while True:
        read, image = capture.read()
        if not read:
            break
        means.append(image.mean())
        assert image.shape == (48, 64, 3)
    capture.release()
    assert len(means) == 11
    assert means[:10] == pytest.approx([5 * index for index in range(10)], abs=4)


@pytest.mark.parametrize(
    ("times", "frames"),
    [
        ([0.0, 0.2, 0.4, 0.6], 7),  # half the rate: each picture twice, but for the last
        ([0.0, 0.1, 0.2, 0.3], 4),
        ([0.0, 0.149, 0.31, 0.44, 0.61], 7),  # uneven: no more than a frame early or late
        ([0.0, 0.01, 0.02, 0.03], 4),  # faster than the rate: none is left out
        ([0.0, 3600.0], 21),  # a loss is cut to two seconds
    ],
)
def test_a_live_video_plays_in_real_time(tmp_path: Path, times: list[float], frames: int) -> None:
    sink = VideoSink(tmp_path / "out.avi", 10, live=True)
    for index, time in enumerate(times):
        picture = np.full((48, 64, 3), 40 * index, np.uint8)
        frame = Frame(picture, index, time, f"live_{index}")
        sink.write(
            frame, Prediction(np.zeros((48, 64), np.int32), np.ones((48, 64), np.float32), ("a",)), picture, Status()
        )
    sink.finish()
    capture = cv2.VideoCapture(str(tmp_path / "out.avi"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == frames
    means = [round(capture.read()[1].mean() / 40) for _ in range(frames)]
    capture.release()
    assert means == sorted(means) and set(means) == set(range(len(times)))


def test_a_folder_is_added_to(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    for _ in range(2):
        sink = FolderSink(tmp_path / "out", "jpg")
        feed(sink, 3)
        sink.finish()
    assert sorted(os.listdir(tmp_path / "out")) == ["clip_000003.jpg", "mine.txt"]
    assert cv2.imread(str(tmp_path / "out" / "clip_000003.jpg")).shape == (48, 64, 3)


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
        "classes": [{"class": "dög", "share": 0.065104, "box": [0, 0, 20, 10], "confidence": 0.5}],
    }


def test_a_link_keeps_pointing(tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    sink = JsonSink(str(tmp_path / "link.jsonl"))
    feed(sink, 0)
    sink.finish()
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real.jsonl").read_text().startswith("{")


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "folder.jsonl").mkdir()
    for make in (
        lambda: JsonSink(str(tmp_path / "file" / "out.jsonl")),
        lambda: JsonSink(str(tmp_path / "folder.jsonl")),
        lambda: JsonSink("/proc/none/out.jsonl"),
        lambda: VideoSink(tmp_path / "file" / "out.mp4", 10),
        lambda: VideoSink(tmp_path / "folder.mp4", 10),
        lambda: FolderSink(tmp_path / "file", "jpg"),
        lambda: open_sink(str(tmp_path / ("x" * 300)), Clip()),
        lambda: open_sink(str(tmp_path / "nul\0"), Clip()),
    ):
        with pytest.raises(SinkError):
            make()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.jsonl", "folder.mp4"]


def test_a_folder_that_is_deleted_on_the_way(tmp_path: Path) -> None:
    for name in ("out.mp4", "pictures"):
        (tmp_path / "made").mkdir()
        sink = open_sink(str(tmp_path / "made" / name), Clip())
        feed(sink, 0)
        shutil.rmtree(tmp_path / "made")
        with pytest.raises(SinkError, match="cannot write .*No such file"):
            feed(sink, 1)
        sink.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fps", "plays"), [(66.6666, 66.67), (119.88012, 119.88), (1000.0, 1000.0), (655.3555, 655.4), (29.97003, 29.97)]
)
def test_a_video_of_any_rate(tmp_path: Path, fps: float, plays: float) -> None:
    """MPEG-4 counts time in at most 65535 parts of a second; 66.6666 frames a second would take 66667."""
    sink = VideoSink(tmp_path / "out.mp4", fps)
    for index in range(5):
        feed(sink, index)
    sink.finish()
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(plays, rel=1e-5)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    capture.release()


def test_a_full_device() -> None:
    sink = JsonSink("/dev/full")
    with pytest.raises(SinkError, match="No space left"):
        feed(sink, 0)
    sink.close()


@pytest.fixture
def little_space() -> Iterator[None]:
    """No file may grow past 64 KiB: the system answers a write beyond as it answers one to a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["out.mp4", "out.avi", "out", "out.jsonl"])
def test_a_disk_that_fills_up(tmp_path: Path, name: str, little_space: None) -> None:
    target = str(tmp_path / name)
    sink = JsonSink(target) if name.endswith("jsonl") else open_sink(target, Clip())
    with pytest.raises(SinkError, match="cannot write"):
        for index in range(20 if name != "out.jsonl" else 2000):
            feed(sink, index, (480, 640) if name != "out.jsonl" else (48, 64), noise=name != "out.jsonl")
        sink.finish()
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_no_window_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert missing() is not None
    with pytest.raises(SinkError, match="--no-show"):
        WindowSink(wait=False, interaction=None)  # type: ignore[arg-type]
