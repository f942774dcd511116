"""A run that goes on until it is told to stop: what live tests need under them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from ovs_edge.runtime.draw.overlay import Style
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.inference.prediction import Prediction
from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.pipeline import run
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.sinks.sink import Sink
from ovs_edge.runtime.status import PLAYING, Status

# Nothing but the colours of the classes: every pixel tells which vocabulary it was painted by.
PLAIN = Style(opacity=1, outlines=False, names=False, legend=False, figures=False)


def halves(height: int = 48, width: int = 64) -> np.ndarray:
    """(H, W, 3) BGR, the left half red, the right half green."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2] = (0, 0, 255)
    image[:, width // 2 :] = (0, 255, 0)
    return image


class Endless:
    """One picture again and again, some two hundred times a second."""

    name = "endless"
    total: int | None = None
    fps = 30.0
    live = False
    moving = True
    state = PLAYING
    dropped = 0

    def __init__(self, image: np.ndarray) -> None:
        self._image = image
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while not self._closed.wait(0.005):
            yield Frame(self._image, index, index / self.fps, f"frame_{index:06d}")
            index += 1

    def close(self) -> None:
        self._closed.set()


@dataclass
class Memory:
    """A sink that remembers every frame's number and version, and lets a test wait for frames."""

    wants_picture: bool = False
    place: str | None = None
    seen: list[tuple[int, int]] = field(default_factory=list)  # index, version
    latest: Prediction | None = None
    came: threading.Condition = field(default_factory=threading.Condition)

    def write(self, frame: Frame, prediction: Prediction, picture: np.ndarray | None, status: Status) -> bool:
        with self.came:
            self.seen.append((frame.index, prediction.version))
            self.latest = prediction
            self.came.notify_all()
        return True

    def idle(self, picture: np.ndarray | None, status: Status) -> bool:
        return True

    def finish(self) -> None: ...

    def close(self) -> None: ...

    def more(self, frames: int) -> None:
        """Return once so many more frames have come."""
        with self.came:
            goal = len(self.seen) + frames
            assert self.came.wait_for(lambda: len(self.seen) >= goal, 20), "the pipeline stands still"


@contextmanager
def going_on(
    segmenter: Segmenter, interaction: Interaction, sinks: Sequence[Sink], image: np.ndarray
) -> Iterator[None]:
    """The pipeline at work in another thread, ended with the block; its error is raised here."""
    source = Endless(image)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run(source, segmenter, sinks, lambda: interaction.controls.style, watch=interaction.watch)
        except BaseException as error:  # noqa: BLE001 - shown to the test
            errors.append(error)

    thread = threading.Thread(target=work, name="run")
    thread.start()
    try:
        yield
    finally:
        source.close()
        thread.join(20)
    assert not thread.is_alive()
    assert not errors, errors
