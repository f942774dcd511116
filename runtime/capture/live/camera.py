"""Cameras on this machine: USB and other V4L2 devices, and a Jetson's CSI connectors."""

from __future__ import annotations

import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Any

from ....bundle.addresses import redact_address, shown_text
from ....bundle.errors import SourceError, UsageError
from ...opencv import cv2
from ..options import CaptureOptions, refuse_photo_options
from ..source import SourceRequest
from . import gstreamer
from .clip import open_clip
from .device import Way, check_granted, open_capture
from .live_source import LiveSource

CSI = "csi://"
_EXPECTED = "expected a camera's number, a device, csi://0, the URL of a stream or a video file"


def open_source(request: SourceRequest) -> LiveSource:
    """A camera by number ("0"), device ("/dev/video0") or CSI connector ("csi://0"); or a video file in place of one."""
    device, options = request.address, request.options
    refuse_photo_options(options)
    shown = redact_address(device)[:80]
    name = f"camera {shown}"
    if device.startswith(CSI):
        ways, flip = _csi_ways(device, options), None  # flipped in hardware
        opened = partial(open_capture, name, ways, _csi_advice)
        return LiveSource(
            name, opened, flip=flip, reconnect=options.reconnect, most_fps=options.most_fps, advice=_csi_advice
        )
    number = device.isascii() and device.isdigit() and len(device) < 6
    if not number and not os.path.exists(device):
        called, equals, source = device.partition("=")
        if equals and source and not {":", "/"} & set(called):
            why = "is not UTF-8" if shown_text(called) != called else "is not needed: there is one camera"
            raise SourceError(f"the camera's name {called[:80]!r} {why}; leave it out: --camera SOURCE")
        if not device.startswith("/dev/") and (os.sep in device or Path(device).suffix):
            raise SourceError(f"there is no file {redact_address(device)[:200]!r}; {_EXPECTED}")
        raise SourceError(f"no camera {shown!r}; expected a number, a device or csi://0. {_advice()}")
    if os.path.isdir(device):
        raise SourceError(f"{redact_address(device)[:200]!r} is a folder; {_EXPECTED}")
    if not number and os.path.isfile(device):
        return open_clip(Path(device), options)
    ways = _device_ways(int(device) if number else device, options)
    opened = partial(_open, name, ways, options)
    return LiveSource(
        name, opened, flip=options.flip_code, reconnect=options.reconnect, most_fps=options.most_fps, advice=_advice
    )


def _open(name: str, ways: list[Way], options: CaptureOptions) -> Any:
    capture = open_capture(name, ways, _advice)
    try:
        check_granted(name, capture, options, _advice)
    except SourceError:
        capture.release()
        raise
    return capture


def _csi_ways(device: str, options: CaptureOptions) -> list[Way]:
    sensor = device[len(CSI) :] or "0"
    if not (sensor.isascii() and sensor.isdigit() and len(sensor) < 4):
        raise UsageError(f"the CSI camera is {device[:80]!r}, expected its connector's number: csi://0")
    if options.mjpg:
        raise UsageError("a CSI camera sends raw pictures; leave out --mjpg")
    if not gstreamer.available():
        raise SourceError(
            f"{device} needs an OpenCV with GStreamer, and this one has none (wheels from PyPI do not); on a Jetson "
            "use JetPack's own: pip uninstall opencv-python opencv-python-headless, and install without the extra 'cpu'"
        )
    pipeline = gstreamer.csi(int(sensor), options)
    return [Way(pipeline, cv2.CAP_GSTREAMER, gstreamer.launch_command(pipeline))]


def _device_ways(device: int | str, options: CaptureOptions) -> list[Way]:
    """V4L2 itself comes first: it needs no more copies than GStreamer. A Jetson decodes MJPG in hardware."""
    path = f"/dev/video{device}" if isinstance(device, int) else device
    command, settings = _ffmpeg_command(path, options), _settings(options)
    ways = [Way(device, _backend(path), command, settings=settings, path=isinstance(device, str))]
    if gstreamer.available() and path.startswith("/dev/"):
        jetson = gstreamer.on_jetson()
        pipeline = gstreamer.v4l2(path, options, jetson=jetson)
        way = Way(pipeline, cv2.CAP_GSTREAMER, gstreamer.launch_command(pipeline))
        ways.insert(0 if jetson and options.mjpg else 1, way)
    return ways


def _backend(path: str) -> int:
    return int(cv2.CAP_V4L2 if sys.platform == "linux" and path.startswith("/dev/") else cv2.CAP_ANY)


def _settings(options: CaptureOptions) -> tuple[tuple[int, float], ...]:
    settings: list[tuple[int, float]] = []
    if options.mjpg:  # before the size: the format decides which sizes there are
        settings.append((cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*"MJPG")))
    if options.size is not None:
        settings += [(cv2.CAP_PROP_FRAME_WIDTH, options.size[0]), (cv2.CAP_PROP_FRAME_HEIGHT, options.size[1])]
    if options.rate is not None:
        settings.append((cv2.CAP_PROP_FPS, options.rate))
    # The shortest queue the driver grants; not every driver knows the setting.
    settings.append((cv2.CAP_PROP_BUFFERSIZE, 1))
    return tuple(settings)


def _ffmpeg_command(path: str, options: CaptureOptions) -> str:
    words = ["ffmpeg", "-f", "v4l2"] if path.startswith("/dev/") else ["ffmpeg"]
    if options.mjpg:
        words += ["-input_format", "mjpeg"]
    if options.size is not None:
        words += ["-video_size", f"{options.size[0]}x{options.size[1]}"]
    if options.rate is not None:
        words += ["-framerate", f"{options.rate:g}"]
    return shlex.join([*words, "-i", path, "-frames:v", "1", "-f", "null", "-"])


def _advice() -> str:
    devices = " ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
    return f"Devices here: {devices}. Check the cable, that no other program has it, and your rights (group 'video')"


def _csi_advice() -> str:
    return "Check the ribbon cable, and try: sudo systemctl restart nvargus-daemon"
