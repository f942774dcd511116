"""A session without an engine: a plain function in place of the graph, so that the rest can be tested alone."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .session import RawOutputs

if TYPE_CHECKING:
    from typing_extensions import Self

Labels = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float32]


class MemorySession:
    """Answers with `function(image, text_embeddings)`, and remembers the shapes it was asked with."""

    def __init__(
        self,
        function: Callable[[npt.NDArray[np.uint8], Floats], tuple[Labels, Floats]],
        queries: Callable[[npt.NDArray[np.uint8], Floats], tuple[Floats, Floats]] | None = None,
        at_once: int = 1,
    ) -> None:
        """`queries` gives mask and class logits, where the graph that is stood in for is panoptic."""
        self.at_once = at_once
        self._function = function
        self._queries = queries
        self.shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def run(self, image: npt.NDArray[np.uint8], text_embeddings: Floats) -> tuple[Labels, Floats]:
        """See `Session.run`."""
        self.shapes.append((image.shape, text_embeddings.shape))
        return self._function(image, text_embeddings)

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: Floats) -> RawOutputs:
        """See `Session.run_raw`."""
        assert self._queries is not None
        return RawOutputs(*self.run(image, text_embeddings), *self._queries(image, text_embeddings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
