"""Pictures from the network: RTSP cameras, MPEG-TS over TCP or UDP, MJPEG and HLS over HTTP."""

from __future__ import annotations

import re
import shlex
from functools import partial

from ...bundle.errors import UsageError
from ..opencv import cv2
from . import gstreamer
from .device import Way, open_capture, without_password
from .live import OPEN_PATIENCE, PATIENCE, LiveSource
from .options import CaptureOptions

SCHEMES = frozenset({"rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt"})
_RECORDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")


def scheme_of(text: str) -> str | None:
    """The scheme of a URL in lower case, or None for what is no URL."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    return found[1].lower() if found else None


def is_recording(url: str) -> bool:
    """Whether `url` is a video file on a web server, which has an end and whose frames all matter."""
    path = re.sub(r"[?#].*", "", url)
    return scheme_of(url) in ("http", "https") and path.lower().endswith(_RECORDINGS)


def stream_source(url: str, options: CaptureOptions) -> LiveSource:
    """The newest picture of the stream at `url`, whose scheme is one of `SCHEMES`."""
    if options.shape:
        raise UsageError("a stream has the size and rate its sender gives it; leave out --size, --rate and --mjpg")
    name = without_password(url)[:200]
    return LiveSource(
        name, partial(open_capture, name, _ways(url), _advice), options.flip_code, options.reconnect, _advice
    )


def _ways(url: str) -> list[Way]:
    """FFmpeg; on a Jetson whose OpenCV has GStreamer, RTSP is decoded in hardware."""
    # FFmpeg gives up by itself a little before its reader is given up.
    timeouts = (
        (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(OPEN_PATIENCE * 800)),
        (cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(PATIENCE * 800)),
    )
    shown = without_password(url)
    rtsp = scheme_of(url) in ("rtsp", "rtsps")
    transport = ["-rtsp_transport", "tcp"] if rtsp else []  # as OpenCV opens it
    command = shlex.join(["ffmpeg", *transport, "-i", shown, "-frames:v", "1", "-f", "null", "-"])
    ways = [Way(url, cv2.CAP_FFMPEG, command, timeouts)]
    if rtsp and gstreamer.available():
        jetson = gstreamer.on_jetson()
        launch = gstreamer.launch_command(gstreamer.rtsp(shown, jetson))
        ways.insert(0 if jetson else 1, Way(gstreamer.rtsp(url, jetson), cv2.CAP_GSTREAMER, launch))
    return ways


def _advice() -> str:
    return "Check that the sender runs, the address, user and password, and the firewall"
