"""GStreamer pipelines that end in OpenCV: Jetson's CSI cameras, USB cameras and RTSP with hardware decoding.

Elements and their properties as NVIDIA's "Accelerated GStreamer" guide for Jetson Linux and GStreamer's reference name
them. The functions return strings; they do not open anything.
"""

from __future__ import annotations

import shlex
from fractions import Fraction
from pathlib import Path

from ...opencv import cv2
from ..options import CaptureOptions, Flip

_CSI_SIZE, _CSI_RATE = (1280, 720), 30.0  # a mode of every common sensor; without one the largest is streamed
_RTSP_LATENCY = 100  # milliseconds of jitter buffer; the element's own default is 2000
# nvvidconv's flip-method.
_NVIDIA_FLIPS = {Flip.NONE: 0, Flip.BOTH: 2, Flip.HORIZONTAL: 4, Flip.VERTICAL: 6}

# One picture, the newest: what OpenCV has not fetched in time is dropped, and nothing waits for a clock.
_SINK = "appsink drop=true max-buffers=1 sync=false"
_TO_BGR = "videoconvert ! video/x-raw,format=BGR"
# The hardware converter leaves NVIDIA's memory and knows no BGR; the last step is the CPU's.
_NVIDIA_TO_BGR = "nvvidconv{flip} ! video/x-raw,format=BGRx ! " + _TO_BGR


def available() -> bool:
    """Whether this OpenCV was built with GStreamer. Wheels from PyPI were not; JetPack's build was."""
    lines = cv2.getBuildInformation().splitlines()
    return any(line.split(":")[0].strip() == "GStreamer" and "YES" in line for line in lines)


def on_jetson() -> bool:
    """Whether this is an NVIDIA Tegra board."""
    return Path("/etc/nv_tegra_release").exists()


def _caps(kind: str, size: tuple[int, int] | None, rate: float | None) -> str:
    parts = [kind]
    if size is not None:
        parts += [f"width={size[0]}", f"height={size[1]}"]
    if rate is not None:
        parts.append(f"framerate={_fraction(rate)}")
    return ",".join(parts)


def _fraction(rate: float) -> str:
    """GStreamer's rates are fractions, and television's (29.97, 59.94) are n * 1000 / 1001."""
    if abs(rate * 1.001 - round(rate * 1.001)) < 1e-3 and rate != round(rate):
        return f"{round(rate * 1.001) * 1000}/1001"
    exact = Fraction(rate).limit_denominator(1000)
    return f"{exact.numerator}/{exact.denominator}"


def csi(sensor: int, options: CaptureOptions) -> str:
    """A camera on a Jetson's CSI connector, flipped in hardware."""
    flip = _NVIDIA_FLIPS[options.flip]
    caps = _caps("video/x-raw(memory:NVMM)", options.size or _CSI_SIZE, options.rate or _CSI_RATE)
    to_bgr = _NVIDIA_TO_BGR.format(flip=f" flip-method={flip}" if flip else "")
    return f"nvarguscamerasrc sensor-id={sensor} ! {caps} ! {to_bgr} ! {_SINK}"


def v4l2(device: str, options: CaptureOptions, *, jetson: bool) -> str:
    """A USB camera; on a Jetson its MJPG is decoded in hardware."""
    source = f"v4l2src device={_quoted(device)}"
    if options.mjpg:
        decode = "nvv4l2decoder mjpeg=1 ! " + _NVIDIA_TO_BGR.format(flip="") if jetson else f"jpegdec ! {_TO_BGR}"
        return f"{source} ! {_caps('image/jpeg', options.size, options.rate)} ! {decode} ! {_SINK}"
    return f"{source} ! {_caps('video/x-raw', options.size, options.rate)} ! {_TO_BGR} ! {_SINK}"


def rtsp(url: str, *, jetson: bool) -> str:
    """A network camera over TCP. `decodebin` finds the decoder for H.264, H.265 or JPEG, a Jetson's hardware first."""
    to_bgr = _NVIDIA_TO_BGR.format(flip="") if jetson else _TO_BGR
    source = f"rtspsrc location={_quoted(url)} protocols=tcp latency={_RTSP_LATENCY} drop-on-latency=true"
    return f"{source} ! decodebin ! {to_bgr} ! {_SINK}"


def _quoted(text: str) -> str:
    """A property's value: in a pipeline "!" and blanks would end it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def launch_command(pipeline: str) -> str:
    """A shell command that runs `pipeline` without this program and says what is wrong with it."""
    words = shlex.split(pipeline.replace(_SINK, "fakesink"))
    # The shell would take caps in parentheses and a URL's ampersand for its own.
    return "gst-launch-1.0 -v " + " ".join(word if word == "!" else shlex.quote(word) for word in words)
