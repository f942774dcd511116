"""A source by its description only, and frames for sinks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ovs_edge.runtime.capture.source import Sound
from ovs_edge.runtime.capture.video_files.pyav import pyav
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.inference.prediction import Prediction
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.sinks.sink import Sink, SinkRequest
from ovs_edge.runtime.status import PLAYING, Status


class Clip:
    """What sinks ask of a source."""

    name = "clip"
    total: int | None = 30
    fps = 10.0
    live = False
    moving = True
    state = PLAYING
    dropped = skipped = 0
    truncated: str | None = None
    sound: Sound | None = None
    files: tuple[Path, ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        return iter(())

    def close(self) -> None:
        pass


def asked(target: object, **options: object) -> SinkRequest:
    """A request for the clip's frames at `target`."""
    return SinkRequest(str(target), Clip(), **options)  # type: ignore[arg-type]


def feed(
    sink: Sink, index: int, size: tuple[int, int] = (48, 64), *, noise: bool = False, time: float | None = None
) -> bool:
    """Give `sink` a frame whose brightness tells its index."""
    rng = np.random.default_rng(index)
    picture = rng.integers(0, 256, (*size, 3), np.uint8) if noise else np.full((*size, 3), 5 * index % 250, np.uint8)
    labels = np.full(size, -1, np.int32)
    labels[:10, :20] = 1
    frame = Frame(picture, index, index / 10 if time is None else time, f"clip_{index:06d}")
    return sink.write(frame, Prediction(labels, np.full(size, 0.5, np.float32), ("cat", "dög")), picture, Status())


def played(path: Path) -> list[tuple[float, float]]:
    """Time in seconds and mean brightness of each frame of a video."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        read, image = capture.read()
        if not read:
            break
        frames.append((capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, float(image.mean())))
    capture.release()
    return frames


def writable(suffix: str) -> object:
    """A parameter of a test: a suffix of pictures, skipped where this OpenCV cannot write them."""
    able = cv2.haveImageWriter(f"x{suffix}")
    reason = f"this OpenCV ({cv2.__version__}) writes no {suffix}"
    return pytest.param(suffix, marks=pytest.mark.skipif(not able, reason=reason))


def duration(path: Path) -> float:
    """Seconds that a video plays, the last frame's among them."""
    if (av := pyav()) is not None:  # OpenCV before 5 multiplies the frames by a rate of its own
        with av.open(str(path)) as container:
            return float(container.duration / av.time_base)
    capture = cv2.VideoCapture(str(path))
    seconds = capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS)
    capture.release()
    return float(seconds)
