"""Synthetic cameras: Motion JPEG over HTTP from a process of its own, each of which can stall, flood, and die.

    GET /0, /1, …                   the stream of a camera: pictures of a clip, in a loop
    GET /mode?camera=0&mode=stall   what the camera does from now on: play, stall, flood or die

A dead camera refuses new connections with 503 and closes those that are open. Run as a program:
`python -m ovs_edge.benchmarks.live.synthetic_cameras CLIP CAMERAS FPS` prints its port.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from ...bundle.errors import SourceError, UsageError
from ...runtime.capture.live.clip import LoopedClip
from ...runtime.opencv import cv2

if TYPE_CHECKING:
    from typing_extensions import Self

_PICTURES = 60  # of the clip, encoded once
_WIDEST = 640  # pixels
_FLOOD = 1000.0  # frames a second of a camera that floods


class CameraMode(str, Enum):
    """What a camera does."""

    PLAY = "play"  # its frames at its rate
    STALL = "stall"  # the connection stays open, and nothing comes
    FLOOD = "flood"  # as many frames as the reader takes, up to a thousand a second
    DIE = "die"  # connections are closed and refused


class SyntheticCameras:
    """The cameras as seen from the program that uses them; a context manager around their process."""

    def __init__(self, clip: Path, count: int, fps: float) -> None:
        """Raises `SourceError` where the process does not start."""
        code = "import sys; from ovs_edge.benchmarks.live.synthetic_cameras import main; main(sys.argv[1:])"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(clip), str(count), str(fps)], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            raise SourceError(f"the synthetic cameras of {clip} do not start; is it a video?")
        self._base = f"http://127.0.0.1:{port}"

    def address(self, camera: int) -> str:
        """The stream of a camera."""
        return f"{self._base}/{camera}"

    def set_mode(self, camera: int, mode: CameraMode) -> None:
        """Have a camera do something else."""
        with urllib.request.urlopen(f"{self._base}/mode?camera={camera}&mode={mode.value}", timeout=10) as reply:
            reply.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, pictures: list[bytes], count: int, fps: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pictures = pictures
        self.period = 1 / fps
        self.modes = [CameraMode.PLAY] * count
        self.changed = threading.Condition()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        """Answer a request."""
        parts = urlsplit(self.path)
        if parts.path == "/mode":
            given = parse_qs(parts.query)
            with self.server.changed:
                self.server.modes[int(given["camera"][0])] = CameraMode(given["mode"][0])
                self.server.changed.notify_all()
            self.send_response(204)
            self.end_headers()
            return
        camera = int(parts.path[1:])
        if self.server.modes[camera] is CameraMode.DIE:
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with suppress(OSError):  # the reader has left
            self._stream(camera)

    def _stream(self, camera: int) -> None:
        index, due = camera * 7, time.monotonic()
        while True:
            with self.server.changed:
                self.server.changed.wait_for(lambda: self.server.modes[camera] is not CameraMode.STALL)
                mode = self.server.modes[camera]
            if mode is CameraMode.DIE:
                return
            due = max(due + (1 / _FLOOD if mode is CameraMode.FLOOD else self.server.period), time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
            self.wfile.write(self.server.pictures[index % len(self.server.pictures)])
            index += 1

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing of requests."""


def _pictures(clip: Path) -> list[bytes]:
    """Parts of the multipart stream, one for each of the clip's first pictures."""
    parts: list[bytes] = []
    capture = LoopedClip(clip, unpaced=True)
    for _ in range(_PICTURES):
        read, image = capture.read()
        if not read:
            break
        if image.shape[1] > _WIDEST:
            height = round(image.shape[0] * _WIDEST / image.shape[1])
            image = cv2.resize(image, (_WIDEST, height), interpolation=cv2.INTER_AREA)
        jpeg = bytes(cv2.imencode(".jpg", image)[1])
        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: " + str(len(jpeg)).encode() + b"\r\n\r\n"
        parts.append(head + jpeg + b"\r\n")
    capture.release()
    if not parts:
        raise UsageError(f"{clip} is no video that can be read")
    return parts


def main(arguments: list[str]) -> None:
    """Serve until terminated."""
    clip, count, fps = arguments
    server = _Server(_pictures(Path(clip)), int(count), float(fps))
    print(server.server_port, flush=True)
    server.serve_forever()
