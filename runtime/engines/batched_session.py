"""One image at a time from each caller, several in one run of the graph: for bundles exported with `--batch N`.

    caller a ──► run(image, vectors) ─┐
    caller b ──► run(image, vectors) ─┼─► one run on (N, H, W, 3) and (N, K, S, D) ──► to each its own labels
    caller c ──► run(image, vectors) ─┘

Nobody waits for a batch to fill: a free graph takes what is there, and what comes meanwhile is the next batch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from .session import RawOutputs, Session

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class _Request:
    """What one caller waits for."""

    image: npt.NDArray[np.uint8]  # (1, H, W, 3)
    vectors: npt.NDArray[np.float32]  # (K, S, D)
    answer: tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]] | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


class BatchedSession:
    """A `Session` of single images around one that takes `batch` of them at once."""

    def __init__(self, session: Session, batch: int) -> None:
        self._session = session
        self.at_once = batch
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []  # the longest waiting first
        self._busy = False  # a caller runs the graph

    def run(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """See `Session.run`; may be called by several threads. One of those that wait runs the graph for all."""
        own = _Request(image, text_embeddings)
        with self._changed:
            self._waiting.append(own)
        try:
            while (group := self._next(own)) is not None:
                self._answer(group)
        except BaseException:  # Ctrl-C while it waits: nobody else may work for it
            with self._changed:
                self._waiting = [one for one in self._waiting if one is not own]
            raise
        if own.error is not None:
            raise own.error
        assert own.answer is not None
        return own.answer

    def _next(self, own: _Request) -> list[_Request] | None:
        """The requests that the caller is to run now; None once `own` has its answer."""
        with self._changed:
            self._changed.wait_for(lambda: own.done or not self._busy)
            if own.done:
                return None
            self._busy = True
            group, self._waiting = self._waiting[: self.at_once], self._waiting[self.at_once :]
            return group

    def _answer(self, group: Sequence[_Request]) -> None:
        try:
            # Places that nobody asked for repeat the first request.
            filled = [*group, *[group[0]] * (self.at_once - len(group))]
            images = np.concatenate([one.image for one in filled])
            labels, confidence = self._session.run(images, _stacked([one.vectors for one in filled]))
            for place, one in enumerate(group):
                one.answer = labels[place : place + 1], confidence[place : place + 1]
        except Exception as error:  # noqa: BLE001 - raised by each caller
            for one in group:
                one.error = error
        except BaseException as error:  # a signal in this thread: the others' frames are lost with it
            for one in group:
                one.error = UsageError(f"the run of this image was interrupted ({type(error).__name__})")
            raise
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]) -> RawOutputs:
        """Never: such graphs are semantic."""
        raise UsageError("a bundle that takes several images at once gives no segments; export it without --batch")

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)


def _stacked(vectors: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Text vectors (K, S, D) of each image as (N, K, S, D), filled up with zero rows, which are no names."""
    classes, names = (max(one.shape[axis] for one in vectors) for axis in (0, 1))
    stacked = np.zeros((len(vectors), classes, names, vectors[0].shape[2]), np.float32)
    for place, one in enumerate(vectors):
        stacked[place, : one.shape[0], : one.shape[1]] = one
    return stacked
