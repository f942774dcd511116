"""Remembers the last frame, and whether anything was found in any: for what is said at the end of a run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..frame import Frame
from ..inference.prediction import Prediction
from ..status import Status


class LastFrame:
    """A sink that writes nothing."""

    wants_picture = False
    place: str | None = None

    def __init__(self) -> None:
        self.found = False  # a pixel of one of the classes, in any frame so far
        self.last: tuple[Frame, Prediction] | None = None

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Remember the frame; look at the labels until something is found."""
        self.last = frame, prediction
        self.found = self.found or bool((prediction.labels >= 0).any())
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Nothing to do."""
        return True

    def finish(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to free; `last` stays."""
