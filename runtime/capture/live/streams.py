"""Pictures from the network: RTSP cameras, MPEG-TS over TCP or UDP, MJPEG and HLS over HTTP."""

from __future__ import annotations

import shlex
from functools import partial

from ....bundle.addresses import redact_address, scheme_of
from ....bundle.errors import UsageError
from ...opencv import cv2
from ..options import refuse_photo_options
from ..source import SourceRequest
from . import gstreamer
from .device import Way, open_capture
from .live_source import OPEN_PATIENCE, PATIENCE, LiveSource


def open_source(request: SourceRequest) -> LiveSource:
    """The newest picture of the stream at a URL."""
    url, options = request.address, request.options
    refuse_photo_options(options)
    if options.shape:
        raise UsageError("a stream has the size and rate its sender gives it; leave out --size, --rate and --mjpg")
    name = redact_address(url)[:200]
    opened = partial(open_capture, name, _ways(url), _advice)
    return LiveSource(name, opened, flip=options.flip_code, reconnect=options.reconnect, advice=_advice)


def _ways(url: str) -> list[Way]:
    """FFmpeg; on a Jetson whose OpenCV has GStreamer, RTSP is decoded in hardware."""
    # FFmpeg gives up by itself a little before its reader is given up.
    timeouts = (
        (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(OPEN_PATIENCE * 800)),
        (cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(PATIENCE * 800)),
    )
    shown = redact_address(url)
    rtsp = scheme_of(url) in ("rtsp", "rtsps")
    transport = ["-rtsp_transport", "tcp"] if rtsp else []  # as OpenCV opens it
    command = shlex.join(["ffmpeg", *transport, "-i", shown, "-frames:v", "1", "-f", "null", "-"])
    ways = [Way(url, cv2.CAP_FFMPEG, command, timeouts)]
    if rtsp and gstreamer.available():
        jetson = gstreamer.on_jetson()
        launch = gstreamer.launch_command(gstreamer.rtsp(shown, jetson=jetson))
        ways.insert(0 if jetson else 1, Way(gstreamer.rtsp(url, jetson=jetson), cv2.CAP_GSTREAMER, launch))
    return ways


def _advice() -> str:
    return "Check that the sender runs, the address, user and password, and the firewall"
