"""One picture from a source."""

from __future__ import annotations

import time as clock
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Frame:
    """A picture as a camera gives it."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR
    index: int  # 0 for the source's first frame; dropped frames of a live source leave gaps
    time: float  # seconds since the source's first frame: position in a clip, arrival for a camera
    name: str  # plain file stem, unique within the source: what a saved picture of this frame is called
    captured: float = field(default_factory=clock.monotonic)  # time.monotonic() at which the picture was got

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"a frame is {self.image.dtype} {self.image.shape}, expected uint8 (H, W, 3) BGR")
