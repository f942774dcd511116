"""An ffmpeg that sends test pictures: from PATH, or the program in the imageio-ffmpeg wheel."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def ffmpeg_program() -> str:
    """Path of an ffmpeg; skips the test where there is none."""
    if found := shutil.which("ffmpeg"):
        return found
    reason = "no ffmpeg here: install it, or the wheel imageio-ffmpeg"
    wheel = pytest.importorskip("imageio_ffmpeg", reason=reason)
    try:
        return str(wheel.get_ffmpeg_exe())
    except RuntimeError:
        pytest.skip(reason)


def ffmpeg(*words: object) -> None:
    """Run an ffmpeg to its end; it may replace files."""
    arguments = ["-loglevel", "error", "-y", *map(str, words)]
    subprocess.run([ffmpeg_program(), *arguments], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def sender(
    *output: str, size: str = "160x120", rate: int = 25, colour: str | None = None
) -> Iterator[subprocess.Popen]:
    """Sends pictures in real time until the block ends, then is killed without a goodbye."""
    picture = f"color={colour}:s={size}:r={rate}" if colour else f"testsrc2=s={size}:r={rate}"
    arguments = ["-loglevel", "quiet", "-re", "-f", "lavfi", "-i", picture, *output]
    with subprocess.Popen([ffmpeg_program(), *arguments], stdin=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)


MPEG_TS = ("-c:v", "mpeg2video", "-g", "5", "-f", "mpegts")
