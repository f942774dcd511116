"""Video files made in a test."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_clip(
    path: Path,
    times: Sequence[float] = tuple(index / 10 for index in range(20)),
    codec: str = "libx264",
    size: tuple[int, int] = (48, 64),
    *,
    options: dict[str, str] | None = None,
) -> Path:
    """A clip of frames (H, W) at `times` in seconds, each a key frame; frame n has brightness 10 * n."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width = size
        stream.pix_fmt = {"mjpeg": "yuvj420p", "png": "rgb24"}.get(codec, "yuv420p")
        stream.codec_context.gop_size = 1
        if codec == "libx264":
            stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
            stream.codec_context.options = {"bf": "0"}
        for index, time in enumerate(times):
            noise = np.random.default_rng(index).integers(0, 8, (*size, 3))
            picture = (noise + 10 * index % 240).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.time_base = Fraction(1, 90_000) if codec == "libx264" else Fraction(1, 10)
            frame.pts = round(time / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def damage(path: Path, *frames: int) -> Path:
    """Replace the data of some frames by noise."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for index in frames:
        at, size = packets[index]
        data[at : at + size] = np.random.default_rng(index).bytes(size)
    path.write_bytes(data)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
