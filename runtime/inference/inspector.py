"""What is at a point of the picture, and what else it might be.

A graph gives each pixel's winning class only. The second is found by running the network again on the same frame with
the winner's text vectors set to zero, which means "no name". Its probability follows by the chain rule:
p(second) = p(second | not the first) · (1 - p(first)).
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ..opencv import cv2
from ..segmenter import Segmenter
from ..threads.newest_task import NewestTaskWorker
from ..vocabulary.background import LABEL
from .frame_processor import ActiveClasses, Prepared
from .prediction import NOTHING, Prediction
from .preprocess import to_frame

_ROUNDS = 3  # runs of the network per question; each costs the stream a frame's time
_SURROUNDINGS = 0.02  # radius of what is looked at where nothing is labelled, of the picture's shorter side
_UNLIKELY = 0.005  # a name below this is no answer


@dataclass(frozen=True)
class Guess:
    """One thing that a region may be."""

    label: str | None  # one of the classes in use, or another name the model knows; None: background without a name
    score: float  # probability, 0..1, mean over the region
    active: bool = True  # whether it is one of the classes in use


@dataclass(frozen=True)
class RegionInfo:
    """What is known of the region at a point."""

    label: str | None  # as the picture shows it; None where nothing is labelled
    share: float  # of the frame's pixels, 0..1
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 lie just outside
    guesses: tuple[Guess, ...]  # likeliest first


@dataclass(frozen=True)
class _Question:
    image: npt.NDArray[np.uint8]
    prediction: Prediction
    point: tuple[int, int]


class Inspector:
    """Answers in its own thread; of the questions that wait, only the newest is answered."""

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._worker: NewestTaskWorker[_Question, RegionInfo] = NewestTaskWorker("inspector", self._answer)

    def ask(self, image: npt.NDArray[np.uint8], prediction: Prediction, x: int, y: int) -> Future[RegionInfo]:
        """What is at pixel (x, y) of `image` (H, W, 3) BGR, which `prediction` belongs to.

        The future raises `UsageError` for a point outside, and where the classes have changed since the prediction;
        `Superseded` when a newer question took its place.
        """
        return self._worker.submit(_Question(image, prediction, (x, y)))

    def close(self) -> None:
        """End the thread."""
        self._worker.close()

    def _answer(self, question: _Question) -> RegionInfo:
        prediction, (x, y) = question.prediction, question.point
        height, width = prediction.labels.shape
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(f"the point {x}, {y} is outside the picture of {width}x{height}; click inside it")
        active = self._segmenter.active
        if active.version != prediction.version:
            raise UsageError("the classes have changed since this picture; click on a newer one")
        mask = _region(prediction, x, y)
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        index = int(prediction.labels[y, x])
        return RegionInfo(
            label=None if index == NOTHING else prediction.classes[index],
            share=float(np.count_nonzero(mask) / mask.size),
            box=(int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1),
            guesses=self._guesses(question, mask),
        )

    def _guesses(self, question: _Question, mask: npt.NDArray[np.bool_]) -> tuple[Guess, ...]:
        prepared = self._segmenter.prepare(question.image)
        active = self._segmenter.candidates()
        competing = set(range(len(active.vocabulary.classes)))
        guesses: list[Guess] = []
        left = 1.0  # probability that no guess so far has taken
        for _ in range(_ROUNDS):
            among = active.among(competing)
            if not among.vocabulary.vectors.any():
                break
            winner, share = self._winner(prepared, among, mask)
            score, left = left * share, left * (1 - share)
            label = active.vocabulary.labels[winner]
            guesses.append(Guess(None if label == LABEL else label, score, winner < active.shown))
            competing.discard(winner)
            if left < _UNLIKELY:
                break
        likely = [guess for guess in guesses if guess.score >= _UNLIKELY]
        return tuple(sorted(likely or guesses[:1], key=lambda guess: -guess.score))

    def _winner(self, prepared: Prepared, active: ActiveClasses, mask: npt.NDArray[np.bool_]) -> tuple[int, float]:
        """The class with the most pixels of the region, and its mean confidence."""
        inferred = self._segmenter.infer(prepared, active)
        labels = inferred.labels[0].astype(np.int32)
        index, confidence = to_frame(labels, inferred.confidence[0].astype(np.float32), prepared.letterbox)
        inside = index[mask]
        winner = int(np.bincount(inside).argmax())
        return winner, float(np.clip(confidence[mask][inside == winner].mean(), 0, 1))


def _region(prediction: Prediction, x: int, y: int) -> npt.NDArray[np.bool_]:
    """Mask (H, W) of the segment at a point, else of the connected pixels of its class, else of its surroundings."""
    labels, ids = prediction.labels, prediction.segment_map
    if ids is not None and ids[y, x]:
        segment: npt.NDArray[np.bool_] = ids == ids[y, x]
        return segment
    same = (labels == labels[y, x]).view(np.uint8)
    if labels[y, x] == NOTHING:
        around = np.zeros_like(same)
        cv2.circle(around, (x, y), max(1, round(_SURROUNDINGS * min(labels.shape))), 1, cv2.FILLED)
        surroundings: npt.NDArray[np.bool_] = (same & around).astype(np.bool_)
        return surroundings
    _, parts = cv2.connectedComponents(same, connectivity=4)
    connected: npt.NDArray[np.bool_] = parts == parts[y, x]
    return connected
