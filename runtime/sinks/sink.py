"""What every sink of results offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ...bundle.errors import note
from ..capture.source import Source
from ..frame import Frame
from ..inference.prediction import Prediction
from ..status import Status


class Sink(Protocol):
    """Takes frames in order.

    A file that is made in one go (a picture) appears under its name in `finish`; `close` without it leaves nothing
    behind. What is made frame by frame (JSON lines, a folder of pictures, a video) is kept as far as it got.
    """

    place: str | None  # where a user finds the result, for the summary

    @property
    def wants_picture(self) -> bool:
        """Whether `write` looks at the annotated picture; asked before each is drawn."""
        ...

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Take one frame and its annotated picture (H, W, 3) BGR; False asks to stop. Raises `SinkError`."""
        ...

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Called some fifty times a second while no frame comes; False asks to stop.

        `picture` is the last one with a banner that says what is wrong, where that changed since the last call.
        """
        ...

    def finish(self) -> None:
        """Complete the output. Raises `SinkError`."""
        ...

    def close(self) -> None:
        """Free everything; may be called more than once."""
        ...


@runtime_checkable
class Holding(Protocol):
    """Also implemented by a sink that can keep a frame on display, such as a window that shows photos."""

    @property
    def holds(self) -> bool:
        """Whether the next frame has to wait, and the end of the run; `idle` is called meanwhile."""
        ...


@dataclass(frozen=True)
class SinkRequest:
    """What a user asked for; every module that opens sinks has `open_sink(request) -> Sink`."""

    target: str  # as the user wrote it
    source: Source  # whose frames it will get
    overwrite: bool = False  # whether what is there, and was not written by this program, may be replaced
    warn: Callable[[str], None] = note  # called with a line about what the output cannot store


Opener = Callable[[SinkRequest], Sink]
