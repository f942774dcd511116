"""What runs a segmenter graph, whichever engine does it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class RawOutputs:
    """Everything that a panoptic graph gives."""

    labels: npt.NDArray[np.integer]  # (1, h, w)
    confidence: npt.NDArray[np.float32]  # (1, h, w)
    mask_logits: npt.NDArray[np.float32]  # (1, Q, H/4, W/4)
    class_logits: npt.NDArray[np.float32]  # (1, Q, K + 1), the last column is "no object"


class Session(Protocol):
    """A loaded graph. A context manager: leaving it frees the engine."""

    @property
    def at_once(self) -> int:
        """How many runs may be under way at the same time, each in a thread of its caller; often one."""
        ...

    def run(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """Labels (1, h, w) and confidence (1, h, w) for an image (1, H, W, 3) BGR and text vectors (K, S, D).

        A zero row of the vectors is no name, and a class with no name never wins.
        """
        ...

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]) -> RawOutputs:
        """`run` with the queries' masks and classes as well; only for a bundle whose task is panoptic."""
        ...

    def __enter__(self) -> Self:
        """The session itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine."""
        ...
