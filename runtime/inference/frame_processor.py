"""What a frame goes through between source and sinks, whoever does it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..segmenter import Asked, Inferred, Prepared
from .prediction import Prediction


class Steps(Protocol):
    """The three steps of `Segmenter.predict`; see there."""

    @property
    def asked(self) -> Asked: ...

    @property
    def at_once(self) -> int: ...

    def prepare(self, image: npt.NDArray[np.uint8]) -> Prepared: ...

    def infer(self, prepared: Prepared, asked: Asked | None = None) -> Inferred: ...

    def finish(self, inferred: Inferred) -> Prediction: ...
