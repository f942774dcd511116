"""One run of the network on a frame, shared by all modes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...runtime.inference.frame_processor import ActiveClasses, Inferred, Prepared
from ...runtime.inference.prediction import Prediction
from ...runtime.segmenter import Segmenter


class Replay:
    """A frame processor whose network has already run: `answer` holds its outputs."""

    at_once = 1

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self.answer: Inferred | None = None

    @property
    def active(self) -> ActiveClasses:
        """See `FrameProcessor`."""
        return self._segmenter.active

    def prepare(self, image: npt.NDArray[np.uint8]) -> Prepared:
        """See `FrameProcessor`."""
        return self._segmenter.prepare(image)

    def infer(self, prepared: Prepared, active: ActiveClasses | None = None) -> Inferred:
        """The outputs in `answer`."""
        assert self.answer is not None
        return self.answer

    def finish(self, inferred: Inferred) -> Prediction:
        """See `FrameProcessor`."""
        return self._segmenter.finish(inferred)
