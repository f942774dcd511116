"""Names of live sources, the pipelines made of them, and real network streams from an ffmpeg."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import rtsp
from support.ffmpeg import MPEG_TS, ffmpeg_program, free_port, sender

from ovs_edge.bundle.errors import MissingExtraError, SourceError, UsageError
from ovs_edge.runtime.capture.live import camera, gstreamer, streams
from ovs_edge.runtime.capture.live.device import check_granted
from ovs_edge.runtime.capture.options import CaptureOptions, parse_size
from ovs_edge.runtime.capture.registry import open_source
from ovs_edge.runtime.capture.source import Source
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.status import PLAYING

FULL = CaptureOptions(size=(1920, 1080), rate=30, mjpg=True, flip="both")
APPSINK = "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


def test_pipelines_for_a_jetson() -> None:
    assert gstreamer.csi(1, CaptureOptions(size=(1920, 1080), rate=29.97, flip="both")) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=30000/1001 ! "
        f"nvvidconv flip-method=2 ! video/x-raw,format=BGRx ! {APPSINK}"
    )
    assert gstreamer.csi(0, CaptureOptions()) == (
        "nvarguscamerasrc sensor-id=0 ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! "
        f"nvvidconv ! video/x-raw,format=BGRx ! {APPSINK}"
    )
    assert gstreamer.v4l2("/dev/video2", FULL, jetson=True) == (
        'v4l2src device="/dev/video2" ! image/jpeg,width=1920,height=1080,framerate=30/1 ! nvv4l2decoder mjpeg=1 ! '
        f"nvvidconv ! video/x-raw,format=BGRx ! {APPSINK}"
    )
    assert gstreamer.rtsp("rtsp://cam/a?b=1&c=2", jetson=True) == (
        'rtspsrc location="rtsp://cam/a?b=1&c=2" protocols=tcp latency=100 drop-on-latency=true ! decodebin ! '
        f"nvvidconv ! video/x-raw,format=BGRx ! {APPSINK}"
    )


def test_pipelines_elsewhere() -> None:
    assert gstreamer.v4l2("/dev/video0", FULL, jetson=False) == (
        'v4l2src device="/dev/video0" ! image/jpeg,width=1920,height=1080,framerate=30/1 ! jpegdec ! ' + APPSINK
    )
    assert gstreamer.v4l2("/dev/video0", CaptureOptions(rate=12.5), jetson=False) == (
        'v4l2src device="/dev/video0" ! video/x-raw,framerate=25/2 ! ' + APPSINK
    )
    assert " ! decodebin ! videoconvert ! " in gstreamer.rtsp("rtsp://cam/a", jetson=False)


def test_the_command_that_shows_the_same_failure() -> None:
    command = gstreamer.launch_command(gstreamer.csi(0, CaptureOptions()))
    assert shlex.split(command)[:6] == [
        "gst-launch-1.0",
        "-v",
        "nvarguscamerasrc",
        "sensor-id=0",
        "!",
        "video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1",
    ]
    assert command.endswith("! fakesink")
    assert "appsink" not in command
    location = gstreamer.launch_command(gstreamer.rtsp('rtsp://cam/a b?"c"&d', jetson=True))
    assert 'location=rtsp://cam/a b?"c"&d' in shlex.split(location)


@given(rate=st.floats(0.2, 240))
def test_any_rate_is_a_fraction_near_it(rate: float) -> None:
    numerator, denominator = map(int, gstreamer._fraction(rate).split("/"))
    assert numerator / denominator == pytest.approx(rate, rel=0.01)


@pytest.mark.parametrize(
    ("rate", "fraction"), [(30, "30/1"), (29.97, "30000/1001"), (59.94, "60000/1001"), (7.5, "15/2")]
)
def test_usual_rates(rate: float, fraction: str) -> None:
    assert gstreamer._fraction(rate) == fraction


def test_sizes_and_options() -> None:
    assert (parse_size("1280x720"), parse_size("640X480"), parse_size(None)) == ((1280, 720), (640, 480), None)
    for text in ("", "1280", "1280x", "x720", "1280x720x3", "-1x5", "1e3x5", "１２x5"):
        with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
            parse_size(text)
    for wrong in ({"size": (0, 10)}, {"rate": 0}, {"rate": float("nan")}, {"flip": "sideways"}):
        with pytest.raises(UsageError, match="expected"):
            CaptureOptions(**wrong)  # type: ignore[arg-type]


@given(text=st.text(max_size=40))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        size = parse_size(text)
    except UsageError:
        return
    assert size is not None
    assert min(size) >= 0


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("ftp://host/clip.mp4", {}, "unknown scheme"),
        ("csi://front", {}, "connector's number"),
        ("csi://0", {"mjpg": True}, "leave out --mjpg"),
        ("screen://left", {}, "monitor's number"),
        ("screen://", {"size": (640, 480)}, "its own size"),
        ("tcp://127.0.0.1:1", {"rate": 5.0}, "its sender gives"),
    ],
)
def test_impossible_requests(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        open_source(None, name, CaptureOptions(**options))


def test_a_csi_camera_without_gstreamer_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gstreamer, "available", lambda: False)
    with pytest.raises(SourceError, match="needs an OpenCV with GStreamer"):
        open_source(None, "csi://0")


class Opened:
    """Stands in for `cv2.VideoCapture`: notes how it was opened, and opens where `works` says so."""

    calls: ClassVar[list[tuple[Any, int]]]
    works: Callable[[Any, int], bool]
    granted = (640, 480, 30.0)

    def __init__(self, target: Any, backend: int = 0, parameters: Any = ()) -> None:
        self.calls.append((target, backend))
        self._open = type(self).works(target, backend)
        self.settings: dict[int, float] = {}

    def isOpened(self) -> bool:
        return self._open

    def set(self, prop: int, value: float) -> bool:
        self.settings[prop] = value
        return True

    def get(self, prop: int) -> float:
        order = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
        return float(self.granted[order.index(prop)]) if prop in order else 0.0

    def read(self) -> tuple[bool, Any]:
        time.sleep(0.001)
        return True, np.zeros((480, 640, 3), np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def on_a_jetson(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Opened]]:
    """An OpenCV with GStreamer on a Jetson whose devices are `Opened`."""

    class Here(Opened):
        calls: ClassVar[list[tuple[Any, int]]] = []
        works = staticmethod(lambda target, backend: True)

    monkeypatch.setattr(gstreamer, "available", lambda: True)
    monkeypatch.setattr(gstreamer, "on_jetson", lambda: True)
    monkeypatch.setattr(cv2, "VideoCapture", Here)
    return Here


def test_a_jetson_decodes_in_hardware_first(on_a_jetson: type[Opened]) -> None:
    opened: list[Source] = [
        open_source(None, "csi://0", CaptureOptions(flip="vertical")),
        open_source(None, "rtsp://user:pass@cam/1"),
        open_source(None, "0", CaptureOptions(size=(640, 480), rate=30, mjpg=True)),
        open_source(None, "0"),
    ]
    for source in opened:
        next(iter(source))
        source.close()
    assert [(str(target).split()[0], backend) for target, backend in on_a_jetson.calls] == [
        ("nvarguscamerasrc", cv2.CAP_GSTREAMER),
        ("rtspsrc", cv2.CAP_GSTREAMER),
        ("v4l2src", cv2.CAP_GSTREAMER),
        ("0", cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY),
    ]
    assert "flip-method=6" in str(on_a_jetson.calls[0][0])


def test_the_next_way_is_tried_and_all_commands_are_told(on_a_jetson: type[Opened]) -> None:
    on_a_jetson.works = staticmethod(lambda target, backend: backend == cv2.CAP_FFMPEG)  # type: ignore[assignment]
    open_source(None, "rtsp://cam/1").close()
    on_a_jetson.works = staticmethod(lambda target, backend: False)  # type: ignore[assignment]
    with pytest.raises(SourceError) as failure:
        open_source(None, "rtsp://user:pass@cam/1")
    message = str(failure.value)
    assert "gst-launch-1.0 -v rtspsrc" in message
    assert "ffmpeg -rtsp_transport tcp -i" in message
    assert "pass@" not in message
    assert "Check that the sender runs" in message


def test_a_size_the_camera_does_not_have_is_refused(on_a_jetson: type[Opened]) -> None:
    with pytest.raises(SourceError, match="gives 640x480 pixels, not 1920x1080 and 30 frames a second, not 60"):
        open_source(None, "0", CaptureOptions(size=(1920, 1080), rate=60))
    check_granted("camera", Opened.__new__(on_a_jetson), CaptureOptions(size=(640, 480)), lambda: "")


def test_what_a_driver_is_asked_for() -> None:
    settings = camera._settings(FULL)
    assert settings[0] == (cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*"MJPG"))  # decides which sizes there are
    assert settings[1:4] == (
        (cv2.CAP_PROP_FRAME_WIDTH, 1920), (cv2.CAP_PROP_FRAME_HEIGHT, 1080), (cv2.CAP_PROP_FPS, 30),
    )  # fmt: skip
    assert camera._ffmpeg_command("/dev/video0", FULL) == (
        "ffmpeg -f v4l2 -input_format mjpeg -video_size 1920x1080 -framerate 30 -i /dev/video0 -frames:v 1 -f null -"
    )


def test_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = np.zeros((6, 8, 4), np.uint8)
    shown[..., :3] = (10, 20, 30)

    class Grabber:
        monitors = ({"all": 1}, {"first": 1})

        def grab(self, area: object) -> np.ndarray:
            assert area == {"first": 1}
            return shown

        def close(self) -> None:
            pass

    monkeypatch.setitem(sys.modules, "mss", types.SimpleNamespace(MSS=Grabber))
    source = open_source(None, "screen://", CaptureOptions(rate=100))
    frame = next(iter(source))
    source.close()
    assert frame.image.shape == (6, 8, 3)
    assert frame.image[0, 0].tolist() == [10, 20, 30]
    assert source.fps == 100
    with pytest.raises(SourceError, match="expected 1 to 1, or 0 for all"):
        open_source(None, "screen://7")
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(MissingExtraError, match=r"ovs-edge\[screen\]"):
        open_source(None, "screen://")


def _until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def _lines(folder: Path) -> list[dict[str, Any]]:
    """JSON lines of a run under way, without one that is being written."""
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("out.jsonl")]
    return [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_a_network_stream_plays_is_cut_and_comes_back(tiny_bundle: Path, tmp_path: Path) -> None:
    """MPEG-TS over TCP. Its sender is killed; another, of another size, takes its place; SIGTERM ends the run."""
    url = f"tcp://127.0.0.1:{free_port()}"
    command = [sys.executable, "-W", "error", "-c", "from ovs_edge.runtime.cli import main; main()"]
    arguments = ["--model", tiny_bundle, "--camera", url, "--classes", "red,blue"]
    outputs = ["--json", tmp_path / "out.jsonl", "--save", tmp_path / "out.mp4"]

    def classes() -> set[str]:
        return {found["class"] for line in _lines(tmp_path) for found in line.get("classes", ())}

    with sender(*MPEG_TS, f"{url}?listen=1", colour="red"):
        _until(lambda: _listens(url))
        process = subprocess.Popen(
            [*command, *map(str, arguments + outputs)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
        )  # fmt: skip
        try:
            _until(lambda: process.poll() is not None or "red" in classes())
        except AssertionError:
            process.kill()
            raise
    with process, sender(*MPEG_TS, f"{url}?listen=1", colour="blue", size="320x240"):
        _until(lambda: process.poll() is not None or "blue" in classes())
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "note: the source is lost: " in error
    assert "note: the source is back after " in error
    every = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    events = [line["event"] for line in every if "event" in line]
    assert events[:2] == ["lost", "recovered"]
    lines = [line for line in every if "event" not in line]
    assert {(line["width"], line["height"]) for line in lines} == {(160, 120), (320, 240)}
    assert out.startswith(f"{len(lines)} frames")
    assert "age" in out
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(lines)
    assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (160, 120)
    capture.release()


def test_a_network_stream_that_turns_to_garbage_on_the_way(tmp_path: Path) -> None:
    """Bytes that are no video come between pictures, in one connection: the next pictures are seen all the same."""
    pictures = {}
    for colour in ("red", "blue"):
        arguments = ["-loglevel", "quiet", "-f", "lavfi", "-i", f"color={colour}:s=160x120:r=25", "-t", "2"]
        made = subprocess.run([ffmpeg_program(), *arguments, *MPEG_TS, "-"], stdout=subprocess.PIPE, check=True)
        pictures[colour] = made.stdout
    noise = np.random.default_rng(0).bytes(100_000)
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        with suppress(OSError):  # the viewer leaves, or the test ends
            while not over.is_set():
                connection, _ = server.accept()
                with connection, suppress(OSError):
                    for part in (pictures["red"], noise, *[pictures["blue"]] * 1000):
                        for start in range(0, len(part), 4096):
                            if over.wait(0.005):
                                return
                            connection.sendall(part[start : start + 4096])

    thread = threading.Thread(target=serve)
    thread.start()
    source = open_source(None, f"tcp://127.0.0.1:{server.getsockname()[1]}")
    try:
        seen, deadline = set(), time.monotonic() + 60
        for frame in source:
            blue, _, red = frame.image.reshape(-1, 3).mean(axis=0)
            seen.add("red" if red > blue + 100 else "blue" if blue > red + 100 else "neither")
            if {"red", "blue"} <= seen or time.monotonic() > deadline:
                break
    finally:
        over.set()
        server.close()
        source.close()
        thread.join(10)
    assert {"red", "blue"} <= seen
    assert not thread.is_alive()


def _listens(url: str) -> bool:
    """Whether a TCP port is open, asked of the system: a connection would be taken for the one viewer."""
    port = f":{int(url.rpartition(':')[2]):04X} "
    table = Path("/proc/net/tcp")
    if not table.is_file():
        time.sleep(2)
        return True
    return any(port in line and " 0A " in line for line in table.read_text().splitlines())


def test_motion_jpeg_over_http_and_a_server_that_goes_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PATIENCE", 0.5)  # FFmpeg's own
    url = f"http://127.0.0.1:{free_port()}/live"
    with sender("-f", "mpjpeg", "-listen", "1", url) as process:
        _until(lambda: _listens(url.rpartition("/")[0]))
        source = open_source(None, url)
        frames = iter(source)
        assert next(frames).image.shape == (120, 160, 3)
        process.send_signal(signal.SIGSTOP)
        state = _until(lambda: source.state if source.state.startswith("lost: ") else None)
        source.close()
    assert "stopped sending frames" in state
    assert "reconnecting" in state


def test_an_rtsp_camera_plays_is_cut_and_comes_back(tmp_path: Path) -> None:
    with rtsp.camera(tmp_path) as server:
        source = open_source(None, server.url)
        frames = iter(source)
        assert next(frames).image.shape == (120, 160, 3)
        states = set()
        server.cut()
        _until(lambda: states.add(source.state) or source.state != PLAYING)
        _until(lambda: states.add(source.state) or source.state == PLAYING)
        assert next(frames).image.shape == (120, 160, 3)
        source.close()
    assert server.sessions == 2
    assert any("lost: rtsp://user:***@127.0.0.1" in state and "stopped sending frames" in state for state in states)
