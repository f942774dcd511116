"""Pictures from the network: RTSP cameras, MPEG-TS over TCP or UDP, MJPEG and HLS over HTTP."""

from __future__ import annotations

import shlex
from functools import partial

from ....bundle.addresses import redact_address, scheme_of
from ....bundle.errors import SourceError, UsageError
from ...opencv import cv2
from ..options import refuse_photo_options
from ..source import SourceRequest
from ..video_files.pyav import pyav
from . import gstreamer
from .device import Way, open_capture
from .live_source import OPEN_PATIENCE, PATIENCE, Capture, LiveSource
from .pyav_capture import PyavCapture


def open_source(request: SourceRequest) -> LiveSource:
    """The newest picture of the stream at a URL."""
    url, options = request.address, request.options
    refuse_photo_options(options)
    if options.shape:
        raise UsageError("a stream has the size and rate its sender gives it; leave out --size, --rate and --mjpg")
    name = redact_address(url)[:200]
    opened = partial(_open, name, url)
    return LiveSource(
        name, opened, flip=options.flip_code, reconnect=options.reconnect, most_fps=options.most_fps, advice=_advice
    )


def _open(name: str, url: str) -> Capture:
    av = pyav()
    rtsp = scheme_of(url) in ("rtsp", "rtsps")
    if av is None or (rtsp and gstreamer.on_jetson() and gstreamer.available()):
        capture: Capture = open_capture(name, _ways(url), _advice)
        return capture
    try:
        # It gives up by itself a little before its reader is given up.
        return PyavCapture(av, url, rtsp=rtsp, open_seconds=OPEN_PATIENCE * 0.8, read_seconds=PATIENCE * 0.8)
    except SourceError as error:
        why = str(error).replace(url, redact_address(url))
        raise SourceError(f"{name} does not open ({why}). {_advice()}. To see why, run: {_command(url)}") from error


def _command(url: str) -> str:
    """A shell command that meets the same failure without this program."""
    transport = ["-rtsp_transport", "tcp"] if scheme_of(url) in ("rtsp", "rtsps") else []  # as it is opened here
    return shlex.join(["ffmpeg", *transport, "-i", redact_address(url), "-frames:v", "1", "-f", "null", "-"])


def _ways(url: str) -> list[Way]:
    """FFmpeg; on a Jetson whose OpenCV has GStreamer, RTSP is decoded in hardware."""
    # FFmpeg gives up by itself a little before its reader is given up.
    timeouts = (
        (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(OPEN_PATIENCE * 800)),
        (cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(PATIENCE * 800)),
    )
    shown = redact_address(url)
    rtsp = scheme_of(url) in ("rtsp", "rtsps")
    ways = [Way(url, cv2.CAP_FFMPEG, _command(url), timeouts)]
    if rtsp and gstreamer.available():
        jetson = gstreamer.on_jetson()
        launch = gstreamer.launch_command(gstreamer.rtsp(shown, jetson=jetson))
        ways.insert(0 if jetson else 1, Way(gstreamer.rtsp(url, jetson=jetson), cv2.CAP_GSTREAMER, launch))
    return ways


def _advice() -> str:
    return "Check that the sender runs, the address, user and password, and the firewall"
