"""What the pipeline's tests put in place of files, networks and screens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from support.tiny_bundle import HEIGHT, WIDTH

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.runtime.engines.memory import MemorySession
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.segmenter import Segmenter, SegmenterOptions
from ovs_edge.runtime.status import PLAYING, Status


class Recording:
    """Grey frames whose brightness is their number; keeps a log of what was done with it."""

    name = "recording"
    fps = 25.0
    live = False
    moving = True
    state = PLAYING
    dropped = 0

    def __init__(self, total: int, size: tuple[int, int] = (HEIGHT, WIDTH), failure: Exception | None = None) -> None:
        self.total: int | None = total
        self.size = size
        self.failure = failure
        self.given = 0
        self.log: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.total or 0):
            self.given += 1
            yield Frame(np.full((*self.size, 3), index % 256, np.uint8), index, index / self.fps, f"frame_{index}")
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.log.append("source closed")


class Notes:
    """A sink that keeps what it hears."""

    place: str | None = None

    def __init__(self, pictures: bool = False, log: list[str] | None = None) -> None:
        self.wants_picture = pictures
        self.log = log if log is not None else []
        self.indices: list[int] = []
        self.statuses: list[Status] = []
        self.idles: list[tuple[Any, Status]] = []
        self.hook: Callable[[Frame], bool] = lambda frame: True

    def write(self, frame: Frame, prediction: Any, picture: Any, status: Status) -> bool:
        assert (picture is not None) == self.wants_picture
        self.indices.append(frame.index)
        self.statuses.append(status)
        return self.hook(frame)

    def idle(self, picture: Any, status: Status) -> bool:
        self.idles.append((picture, status))
        return True

    def finish(self) -> None:
        self.log.append("sink finished")

    def close(self) -> None:
        self.log.append("sink closed")


class Table:
    def encode(self, names: Sequence[str], progress: object = None) -> np.ndarray:
        return np.ones((len(names), 3), np.float32)


def pretend(bundle: Path, seconds: float = 0.0, failure: Exception | None = None, at_once: int = 1) -> Segmenter:
    """A segmenter whose network takes so many seconds, and calls every picture's left half "one"."""
    labels = np.zeros((1, HEIGHT, WIDTH), np.int32)
    labels[..., WIDTH // 2 :] = 1

    def answer(image: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if failure is not None:
            raise failure
        time.sleep(seconds)
        return labels, np.ones(labels.shape, np.float32)

    manifest = Bundle.open(bundle, verify=False).manifest
    segmenter = Segmenter(
        manifest, MemorySession(answer, at_once=at_once), Table(), SegmenterOptions("none", exact_words=True)
    )
    segmenter.set_classes("one,two")
    return segmenter


def camera(period: float, lost_after: int | None = None, *sizes: tuple[int, int]) -> Any:
    """What opens a camera of so many seconds a frame, which ends after so many frames; its size changes after 20."""
    pictures = [np.zeros((*size, 3), np.uint8) for size in sizes or ((HEIGHT, WIDTH),)]

    class Capture:
        def __init__(self) -> None:
            self.count = 0

        def read(self) -> tuple[bool, Any]:
            time.sleep(period)
            self.count += 1
            return self.count != lost_after, pictures[self.count // 20 % len(pictures)]

        def get(self, prop: int) -> float:
            return 0.0

        def release(self) -> None:
            pass

    return Capture
