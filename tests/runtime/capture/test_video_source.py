"""Videos: times, damaged and missing frames, names that libraries misread, and why a file is no video."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from support.clips import cut, damage, write_clip
from support.ffmpeg import ffmpeg, ffmpeg_program

from ovs_edge.bundle.errors import SourceError
from ovs_edge.runtime.capture.interruptible import interruptible
from ovs_edge.runtime.capture.registry import open_source
from ovs_edge.runtime.capture.video_files.completeness import cut_short
from ovs_edge.runtime.capture.video_files.video_source import VideoSource
from ovs_edge.runtime.opencv import cv2


@pytest.fixture(params=["pyav", "opencv"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the video is read with."""
    if request.param == "opencv":
        monkeypatch.setattr("ovs_edge.runtime.capture.video_files.decoders.pyav", lambda: None)
    return str(request.param)


def levels(source: VideoSource) -> list[int]:
    """Which frames came, by their brightness."""
    return [round((frame.image.mean() - 4) / 10) for frame in source]


@pytest.mark.parametrize(
    "times",
    [
        [0.0, 0.05, 0.1, 0.15, 0.4, 0.65, 0.9, 2.0],  # variable
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0],  # a time-lapse: below one frame a second
        [5.0, 5.1, 5.2, 5.3],  # from the first frame on
    ],
)
def test_times_are_the_containers(tmp_path: Path, times: list[float], library: str) -> None:
    source = VideoSource(write_clip(tmp_path / "clip.mp4", times))
    frames = list(source)
    source.close()
    assert [frame.time for frame in frames] == pytest.approx([at - times[0] for at in times], abs=0.002)
    assert (source.skipped, source.truncated) == (0, None)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_containers_that_know_the_order_of_decoding_only(tmp_path: Path, codec: str) -> None:
    """An AVI with B-frames, and what was copied out of it."""
    made, copied = tmp_path / "made.avi", tmp_path / "copied.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=10:d=3", "-c:v", codec, "-bf", "3", "-pix_fmt", "yuv420p", made)
    paths = [made]
    if codec == "libx264":
        ffmpeg("-i", made, "-c", "copy", copied)
        paths.append(copied)
    for path in paths:
        with av.open(str(path)) as container:
            assert container.streams.video[0].codec_context.has_b_frames
        source = VideoSource(path)
        assert [frame.time for frame in source] == pytest.approx([index / 10 for index in range(30)])


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.avi", "mjpeg"), ("a.mov", "png")])
def test_damaged_frames_are_skipped_and_counted(tmp_path: Path, name: str, codec: str, library: str) -> None:
    told: list[str] = []
    source = VideoSource(damage(write_clip(tmp_path / name, codec=codec), 3, 4, 11), told.append)
    assert levels(source) == [index for index in range(20) if index not in (3, 4, 11)]
    assert (source.skipped, source.truncated) == (3, None)
    assert told == [f"skipped: 3 frames of {tmp_path / name} did not decode"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", {"movflags": "+faststart"}), ("a.mkv", {}), ("a.avi", {})],
)
def test_a_video_that_is_cut_short_is_told(tmp_path: Path, name: str, options: dict[str, str], library: str) -> None:
    told: list[str] = []
    path = write_clip(tmp_path / name, codec="mjpeg" if name.endswith("avi") else "libx264", options=options)
    assert cut_short(path) is None
    source = VideoSource(cut(path, 0.8), told.append)
    had = len(list(source))
    assert 2 < had < 20
    assert source.truncated is not None
    assert f"is cut short: {had} of 20 frames read" in source.truncated or name == "a.mkv"
    assert "bytes are there" in source.truncated
    assert told[-1] == source.truncated


def test_frames_of_another_size_keep_it(tmp_path: Path) -> None:
    """An MPEG transport stream of two sizes, one after the other."""
    parts = []
    for number, size in enumerate(((48, 64), (96, 32))):
        path = write_clip(tmp_path / f"{number}.ts", codec="mpeg2video", size=size)
        parts.append(path.read_bytes())
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    frames = list(VideoSource(tmp_path / "both.ts"))
    shapes = [frame.image.shape[:2] for frame in frames]
    assert set(shapes) == {(48, 64), (96, 32)}
    assert shapes == sorted(shapes, key=lambda shape: shape != (48, 64))
    times = [frame.time for frame in frames]
    assert times == sorted(set(times))


@pytest.mark.parametrize(("degrees", "corner"), [(90, "left"), (180, "bottom"), (270, "right")])
def test_a_turned_video_is_read_upright(tmp_path: Path, degrees: int, corner: str, library: str) -> None:
    """The upper half is white as stored."""
    flat, turned = tmp_path / "flat.mp4", tmp_path / "turned.mp4"
    words = ["-loglevel", "error", "-f", "lavfi", "-i", "color=black:s=64x48:r=10:d=1", "-vf",
             "drawbox=0:0:64:24:white:fill", "-pix_fmt", "yuv420p", str(flat)]  # fmt: skip
    subprocess.run([ffmpeg_program(), *words], check=True)
    turn = ["-loglevel", "error", "-display_rotation", str(degrees), "-i", str(flat), "-c", "copy", str(turned)]
    if subprocess.run([ffmpeg_program(), *turn], capture_output=True, check=False).returncode:
        pytest.skip("this ffmpeg cannot set a rotation (needs 6.0)")
    image = next(iter(VideoSource(turned))).image
    height, width = image.shape[:2]
    assert (height, width) == ((48, 64) if degrees == 180 else (64, 48))
    half = {"left": image[:, : width // 2], "right": image[:, width // 2 :], "bottom": image[height // 2 :]}[corner]
    assert half.mean() > 200
    assert image.mean() < 150


@pytest.mark.parametrize(
    ("flags", "white"),
    [
        (["-display_rotation", "0", "-display_hflip"], "right"),
        (["-display_rotation", "0", "-display_vflip"], "left"),
        (["-display_rotation", "90", "-display_hflip"], "bottom"),
        (["-display_rotation", "90", "-display_vflip"], "top"),
    ],
)
def test_a_mirrored_video_is_read_as_players_show_it(tmp_path: Path, flags: list[str], white: str) -> None:
    """The left half is white as stored, which a quarter turn to the left brings to the bottom."""
    flat, turned = tmp_path / "flat.mp4", tmp_path / "turned.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=black:s=64x48:r=10:d=1", "-vf", "drawbox=0:0:32:48:white:fill", flat)
    words = ["-loglevel", "error", *flags, "-i", str(flat), "-c", "copy", str(turned)]
    if subprocess.run([ffmpeg_program(), *words], capture_output=True, check=False).returncode:
        pytest.skip("this ffmpeg cannot set a display matrix (needs 6.0)")
    shown = tmp_path / "shown.png"
    ffmpeg("-i", turned, "-frames:v", "1", shown)
    image = next(iter(VideoSource(turned))).image
    assert image.shape[:2] == ((48, 64) if "0" in flags else (64, 48))
    assert np.abs(image.astype(int) - cv2.imread(str(shown)).astype(int)).mean() < 4
    height, width = image.shape[:2]
    parts = {"left": image[:, : width // 2], "right": image[:, width // 2 :]}
    parts |= {"top": image[: height // 2], "bottom": image[height // 2 :]}
    assert parts[white].mean() > 200
    assert image.mean() < 150


@pytest.mark.parametrize("name", ["2026-11-26T10:00:00.mp4", "a%03d.mp4", "https:.mp4", b"caf\xe9\xff.mp4", "-x.mp4"])
def test_names_that_libraries_misread(
    tmp_path: Path, name: str | bytes, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = os.fsdecode(name)
    os.rename(write_clip(tmp_path / "clip.mp4", [0, 0.1, 0.2]), text)
    source = open_source(text)
    frames = list(source)
    source.close()
    assert len(frames) == 3
    assert all(frame.name.encode() for frame in frames)  # any file system and JSON can hold it
    camera = open_source(camera=text if os.path.isabs(text) else os.path.join(".", text))
    assert next(iter(camera)).image.shape == frames[0].image.shape
    camera.close()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/caf\udce9.mp4", "rtsp://127.0.0.1:9/caf\udce9"])
def test_an_address_that_is_not_utf_8(address: str, library: str) -> None:
    with pytest.raises(SourceError) as raised:
        next(iter(open_source(address)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: cut(write_clip(path), 0.8), r"index \(moov\) is missing"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_text("<!DOCTYPE html><p>Not found"), "it is a web page"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "Git LFS pointer"),
        (lambda path: path.write_bytes(b"%PDF-1.7"), "it is PDF"),
        (lambda path: path.write_bytes(bytes(5000)), "it begins with zeros"),
        (lambda path: path.write_bytes(b"8BPS\0\1"), "it is a Photoshop file"),
        (lambda path: path.write_text("ffconcat version 1.0\nfile a.mp4"), "it is a list of files"),
        (lambda path: path.write_text("v=0\no=- 0 0 IN IP4 0.0.0.0\nm=video 5004 RTP/AVP 96"), "it is a session desc"),
        (lambda path: path.write_text("<?xml version='1.0'?>\n<!DOCTYPE svg>\n<svg xmlns='x'/>"), "it is SVG"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + b"x" * 99), "it is a ZIP archive"),
    ],
)
def test_why_a_file_is_no_video(tmp_path: Path, make: object, says: str, library: str) -> None:
    make(tmp_path / "clip.mp4")  # type: ignore[operator]
    with pytest.raises(SourceError, match=says):
        VideoSource(tmp_path / "clip.mp4")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("#EXTM3U\n#EXTINF:3,\nhttp://127.0.0.1:9/a.ts\n", "M3U"),
        ("\ufeff#EXTM3U\na.ts\n", "M3U"),
        ("<?xml version='1.0'?><MPD/>", "DASH"),
        ("[playlist]\n", "PLS"),
    ],
)
@pytest.mark.parametrize("name", ["live.m3u8", "clip.mp4"])
def test_a_playlist_is_not_followed(tmp_path: Path, text: str, kind: str, name: str, library: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    message = rf"is a playlist \({kind}\); give the address of its stream with --camera or --source"
    with pytest.raises(SourceError, match=message):
        open_source(str(path))
    with pytest.raises(SourceError, match=message):
        open_source(camera=str(path))


def test_a_playlist_on_standard_input_opens_no_address(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nhttp://127.0.0.1:{server.getsockname()[1]}/a.ts\n"
        code = "from ovs_edge.runtime.capture.registry import open_source; open_source('-')"
        words = [sys.executable, "-c", code]
        ran = subprocess.run(words, input=text * 2, text=True, capture_output=True, timeout=60, check=False)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "SourceError" in ran.stderr


def test_a_file_without_a_picture_track(tmp_path: Path, library: str) -> None:
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(SourceError, match="has no picture track"):
        VideoSource(tmp_path / "song.mp4")


def _silent_server() -> socket.socket:
    """Takes connections, and says nothing."""
    server = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve() -> None:
        try:
            while True:
                held.append(server.accept()[0])
        except OSError:
            for connection in held:
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return server


@pytest.mark.parametrize("kind", ["fifo", "http"])
def test_ctrl_c_while_a_source_opens(tmp_path: Path, kind: str) -> None:
    with _silent_server() as server:
        os.mkfifo(tmp_path / "pipe.mp4")
        source = str(tmp_path / "pipe.mp4") if kind == "fifo" else f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
        code = (
            "import sys; from ovs_edge.bundle.errors import exit_on_error\n"
            "from ovs_edge.runtime.capture.registry import open_source\n"
            "print('ready', flush=True); exit_on_error(lambda: open_source(sys.argv[1]))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=20)
        server.shutdown(socket.SHUT_RDWR)
    assert (process.returncode, error) == (130, "interrupted\n")


def test_what_comes_too_late_is_freed() -> None:
    go, freed = threading.Event(), threading.Event()

    def slow() -> str:
        go.wait(10)
        return "opened"

    def interrupt(number: int, stack: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            interruptible(slow, lambda late: freed.set())
    finally:
        signal.signal(signal.SIGALRM, before)
    go.set()
    assert freed.wait(10)
    assert interruptible(lambda: 3, lambda late: None) == 3
    with pytest.raises(ValueError, match="no"):
        interruptible(lambda: int("no"), lambda late: None)
