"""Annotated videos: their times, what is kept of them, and the fallback without PyAV."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from support.sink_parts import duration, feed, played

from ovs_edge.bundle.errors import SinkError
from ovs_edge.runtime.capture.source import Sound
from ovs_edge.runtime.capture.video_files.video_source import VideoSource
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.sinks.video_files.opencv_encoder import writable_rate
from ovs_edge.runtime.sinks.video_files.video_sink import VideoSink


@pytest.fixture(params=["pyav", "opencv"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the video is written with."""
    if request.param == "opencv":
        monkeypatch.setattr("ovs_edge.runtime.sinks.video_files.encoders.pyav", lambda: None)
    return str(request.param)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv", ".mov"])
@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_a_video_plays_back(tmp_path: Path, suffix: str, size: tuple[int, int], library: str) -> None:
    path = tmp_path / f"out{suffix}"
    sink = VideoSink(path, 10)
    for index in range(10):
        feed(sink, index, size)
    assert not path.exists()  # of a recording, the whole or nothing under its name
    feed(sink, 10, (100, 40))
    sink.finish()
    frames = played(path)
    assert len(frames) == 11
    assert [mean for _, mean in frames[:10]] == pytest.approx([5 * index for index in range(10)], abs=4)
    assert [time for time, _ in frames] == pytest.approx([index / 10 for index in range(11)], abs=0.002)
    capture = cv2.VideoCapture(str(path))
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (64, 48)
    capture.release()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_a_change_of_size_is_told_once(tmp_path: Path, size: tuple[int, int]) -> None:
    told: list[str] = []
    sink = VideoSink(tmp_path / "out.mp4", 10, warn=told.append)
    feed(sink, 0, size)
    feed(sink, 1, size)
    assert told == []  # a side made even is none
    for index in range(2, 6):
        feed(sink, index, (100, 40) if index % 2 else (48, 64))
    sink.finish()
    said = "frames of other sizes are scaled into it; boxes in JSON are of each frame's own size"
    assert told == [f"{tmp_path}/out.mp4 keeps the size of its first frame, 64x48: {said}"]


TIMES = [
    [0.0, 0.2, 0.4, 0.6],
    [0.0, 0.1, 0.2, 0.3],
    [0.0, 0.15, 0.3, 0.45, 0.6],
    [0.0, 2.0, 4.0, 6.0],  # a time-lapse
    [0.0, 0.1, 0.2, 1.2, 2.2, 3.2],  # of a variable rate
]


@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize("live", [True, False])
def test_each_picture_stays_as_long_as_its_frame(tmp_path: Path, times: list[float], live: bool, library: str) -> None:
    path = tmp_path / "out.mp4"
    sink = VideoSink(path, 10, live=live)
    for index, time in enumerate(times):
        feed(sink, 8 * index, time=time)
    sink.finish()
    frames = played(path)
    first = {}
    for time, mean in frames:
        first.setdefault(round(mean / 40), time)
    assert list(first) == list(range(len(times)))
    assert list(first.values()) == pytest.approx(times, abs=0.002 if library == "pyav" else 0.06)
    if library == "pyav":  # the last one as long as the one before it
        assert len(frames) == len(times)
        assert duration(path) == pytest.approx(2 * times[-1] - times[-2], abs=0.02)


def test_a_loss_of_a_live_source_is_cut_to_two_seconds(tmp_path: Path, library: str) -> None:
    sink = VideoSink(tmp_path / "out.mp4", 10, live=True)
    for index, time in enumerate((0.0, 3600.0, 3600.1)):
        feed(sink, 8 * index, time=time)
    sink.finish()
    assert 2 < duration(tmp_path / "out.mp4") < 2.4


def test_a_live_video_stands_under_its_name_and_plays_after_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from support.sink_parts import feed\n"
        "from ovs_edge.runtime.sinks.video_files.video_sink import VideoSink\n"
        "sink = VideoSink(Path(sys.argv[1]), 10, live=True)\n"
        "for index in range(45): feed(sink, index)\n"
        "os.kill(os.getpid(), 9)"
    )
    for name in ("cam.mp4", "cam.mkv", "cam.mov"):
        words = [sys.executable, "-c", code, str(tmp_path / name), str(Path(__file__).parents[2])]
        assert subprocess.run(words, check=False).returncode == -9
        frames = played(tmp_path / name)
        assert len(frames) >= 33  # of 45: at most about the last second is lost
        assert [mean for _, mean in frames[:30]] == pytest.approx([5 * index for index in range(30)], abs=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cam.mkv", "cam.mov", "cam.mp4"]


@pytest.mark.parametrize("live", [True, False])
def test_without_a_finish_what_was_written_is_kept(tmp_path: Path, live: bool, library: str) -> None:
    said: list[str] = []
    sink = VideoSink(tmp_path / "deep" / "out.mp4", 10, live=live)
    sink.close()
    assert list(tmp_path.iterdir()) == []
    sink = VideoSink(tmp_path / "deep" / "out.mp4", 10, live=live, warn=said.append)
    for index in range(12):
        feed(sink, index)
    said.clear()  # what OpenCV cannot do
    sink.close()
    sink.close()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.mp4"]
    assert len(played(tmp_path / "deep" / "out.mp4")) == 12
    assert said == ([] if live else [f"{tmp_path}/deep/out.mp4 holds the 12 frames before the run ended"])


def test_below_the_reserve_the_video_is_completed_and_kept(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    sink = VideoSink(tmp_path / "out.mp4", 10, live=True)
    for index in range(12):
        feed(sink, index)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1000))
    with pytest.raises(SinkError, match=r"MiB left on its disk.*12 frames are kept"):
        feed(sink, 12)
    sink.close()
    assert len(played(tmp_path / "out.mp4")) == 12


@pytest.fixture
def little_space() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_disk_that_fills_up_what_was_written_plays(tmp_path: Path, little_space: None) -> None:
    sink = VideoSink(tmp_path / "out.mp4", 10, live=True)
    done = 0
    with pytest.raises(SinkError, match=r"cannot write.*free some space"):
        for done in range(200):
            feed(sink, done, (96, 128), noise=True)
    sink.close()
    assert 10 <= len(played(tmp_path / "out.mp4")) <= done


@pytest.mark.parametrize(
    ("fps", "plays"), [(66.6666, 66.67), (119.88012, 119.88), (1000.0, 1000.0), (655.3555, 655.4), (29.97003, 29.97)]
)
def test_a_rate_that_mpeg_4_can_hold(fps: float, plays: float) -> None:
    """MPEG-4 counts time in at most 65535 parts of a second; 66.6666 frames a second would take 66667."""
    assert writable_rate(fps) == pytest.approx(plays, rel=1e-5)


def test_without_pyav_it_is_said_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovs_edge.runtime.sinks.video_files.encoders.pyav", lambda: None)
    told: list[str] = []
    sink = VideoSink(tmp_path / "out.mp4", 10, warn=told.append)
    feed(sink, 0)
    feed(sink, 1)
    sink.finish()
    assert len(told) == 1
    assert "without sound" in told[0]
    assert "ovs-edge[video]" in told[0]


def _with_sound(path: Path, codec: str, seconds: float = 2.0, late: float = 0.0, tracks: int = 1) -> Path:
    """A clip of 10 frames a second, with a tone that starts `late` in every sound track."""
    rate = 8000 if codec in ("aac", "pcm_s16le") else 44100
    with av.open(str(path), "w") as container:
        picture = container.add_stream("mpeg4", rate=10)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
        sounds = [container.add_stream(codec, rate=rate, layout="mono") for _ in range(tracks)]
        for index in range(int(10 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), index, np.uint8), format="bgr24")
            container.mux(picture.encode(frame))
        tone = (np.sin(np.arange(int(rate * (seconds - late))) * 0.3) * 8000).astype(np.int16)
        for sound in sounds:
            frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            frame.rate, frame.pts = rate, round(rate * late)
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        container.mux(picture.encode(None))
    return path


def test_sound_is_copied(tmp_path: Path) -> None:
    source = _with_sound(tmp_path / "in.mp4", "aac")
    told: list[str] = []
    for name, frames in (("whole.mp4", 20), ("part.mkv", 8)):
        sink = VideoSink(tmp_path / name, 10, sound=Sound("aac", source, 0.0), warn=told.append)
        for index in range(frames):
            feed(sink, index)
        sink.finish()
        with av.open(str(tmp_path / name)) as container:
            track = container.streams.audio[0]
            samples = sum(frame.samples for frame in container.decode(track))
        assert track.codec_context.name == "aac"
        assert samples / 8000 == pytest.approx(frames / 10, abs=0.3)
        assert len(played(tmp_path / name)) == frames
    assert told == []


@pytest.mark.parametrize("encoder", ["aac", "libmp3lame"])
@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
def test_sound_that_starts_late_stays_late(tmp_path: Path, encoder: str, name: str) -> None:
    video = VideoSource(_with_sound(tmp_path / "in.mkv", encoder, late=1.2))
    video.close()
    sink = VideoSink(tmp_path / name, 10, sound=video.sound)
    for index in range(20):
        feed(sink, index)
    sink.finish()
    with av.open(str(tmp_path / name)) as container:
        times = [float(packet.pts * packet.time_base) for packet in container.demux(audio=0) if packet.size]
    assert times[0] == pytest.approx(1.2, abs=0.15)  # an encoder may start a little before
    assert times[1] - times[0] < 0.15
    assert [time for time, _ in played(tmp_path / name)][:2] == pytest.approx([0, 0.1], abs=0.002)


def test_sound_tracks_that_are_left_out_are_told(tmp_path: Path) -> None:
    video = VideoSource(_with_sound(tmp_path / "in.mkv", "aac", tracks=2))
    video.close()
    told: list[str] = []
    sink = VideoSink(tmp_path / "out.mkv", 10, sound=video.sound, warn=told.append)
    for index in range(20):
        feed(sink, index)
    sink.finish()
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert len(container.streams.audio) == 1
    assert told == ["1 of 2 sound tracks is copied: the first"]


@pytest.mark.parametrize(
    ("source", "encoder", "codec"),
    [("in.ts", "aac", "aac"), ("in.mkv", "ac3", "ac3"), ("in.ts", "eac3", "eac3"), ("in.mp4", "libmp3lame", "mp3")],
)
@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
def test_sound_whose_packets_an_index_needs(tmp_path: Path, source: str, encoder: str, codec: str, name: str) -> None:
    video = VideoSource(_with_sound(tmp_path / source, encoder))
    video.close()
    assert video.sound is not None
    assert video.sound.codec == codec
    assert video.sound.framed == (source.endswith(".ts") and codec == "aac")
    told: list[str] = []
    sink = VideoSink(tmp_path / name, 10, sound=video.sound, warn=told.append)
    for index in range(20):
        feed(sink, index)
    sink.finish()
    with av.open(str(tmp_path / name)) as container:
        track = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(track))
    assert track.codec_context.codec.canonical_name == codec
    assert samples / track.rate == pytest.approx(2, abs=0.3)
    assert len(played(tmp_path / name)) == 20
    assert told == []


def test_sound_that_is_not_copied_is_told(tmp_path: Path) -> None:
    source = _with_sound(tmp_path / "in.mov", "pcm_s16le")
    for name, sound, says in (
        ("a.mp4", Sound("pcm_s16le", source, 0.0), "does not take pcm_s16le; save as .mkv"),
        ("a.avi", Sound("aac", source, 0.0), "written without"),
        ("b.mp4", Sound("aac", None, 0.0), "read once"),
        ("c.mp4", Sound("aac", tmp_path / "gone.mp4", 0.0), "not copied"),
    ):
        told: list[str] = []
        sink = VideoSink(tmp_path / name, 10, sound=sound, warn=told.append)
        feed(sink, 0)
        feed(sink, 1)
        sink.finish()
        assert len(told) == 1
        assert says in told[0]
        assert len(played(tmp_path / name)) == 2


def test_the_video_is_h264_with_one_index(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", 10, live=True)
    for index in range(30):
        feed(sink, index)
    sink.finish()
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.frames) == ("h264", "yuv420p", 30)
