"""What every video decoder offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..source import Sound

STDIN = "-"

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR, upright


class VideoDecoder(Protocol):
    """One opened video."""

    fps: float  # mean rate
    total: int | None  # frames, or about so many
    promised: int | None  # frames that the file's index lists; None where it lists none
    sound: Sound | None
    broken: str | None  # why reading ended before the end, once it has

    @property
    def skipped(self) -> int:
        """Frames that did not decode, so far."""
        ...

    @property
    def damaged(self) -> int:
        """Frames that came with errors, so far."""
        ...

    @property
    def missing(self) -> int:
        """Frames that are known to be lost, beside those that did not decode."""
        ...

    def read(self) -> tuple[Image, float] | None:
        """The next frame that decodes and its time in seconds on the file's clock; None at the end."""
        ...

    def close(self) -> None:
        """Free the decoder."""
        ...
