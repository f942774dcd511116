"""What a frame becomes between source and sinks: `Prepared`, `Inferred`, `Prediction`, and who takes these steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.letterbox import Letterbox
from ...bundle.vocabulary import ClassNames, Vocabulary
from ..engines.session import RawOutputs
from ..vocabulary.reading import Reading
from ..vocabulary.sensitivity import MOST_CONFIDENT
from .prediction import Prediction


@dataclass(frozen=True)
class ActiveClasses:
    """The classes in use. Replaced as one value, so that no frame is labelled with half a change."""

    vocabulary: Vocabulary  # the user's classes, then the background classes if there are any
    shown: int  # number of the user's classes; a label from here on is background
    things: tuple[bool, ...]  # of each of the user's classes: whether its instances are told apart
    version: int = 0  # counts the changes of classes of one segmenter
    readings: tuple[Reading, ...] = ()  # of the user's classes none of whose names is a trained one
    margin: float = 0.0  # added to the confidence threshold, by the sensitivity that the vectors were made for

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the user's classes."""
        return self.vocabulary.labels[: self.shown]

    @property
    def classes(self) -> tuple[ClassNames, ...]:
        """The user's classes with all their names."""
        return self.vocabulary.classes[: self.shown]

    def among(self, competing: Iterable[int]) -> ActiveClasses:
        """The same classes, of which only `competing` can win: the others have zeros for vectors, which means no name."""
        rows = list(competing)
        vectors = np.zeros_like(self.vocabulary.vectors)
        vectors[rows] = self.vocabulary.vectors[rows]
        return replace(self, vocabulary=replace(self.vocabulary, vectors=vectors))

    def raised(self, threshold: float) -> float:
        """A confidence threshold with the margin on it; never lower than `threshold`."""
        return max(threshold, min(threshold + self.margin, MOST_CONFIDENT))


@dataclass(frozen=True)
class Prepared:
    """A frame with the network's input made from it."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR, the frame itself
    tensor: npt.NDArray[np.uint8]  # (1, h, w, 3) BGR, the network's input
    letterbox: Letterbox  # where the frame lies in the input
    timings: dict[str, float]  # step -> milliseconds


@dataclass(frozen=True)
class Inferred:
    """The network's answer for a frame, together with the classes it was computed for."""

    prepared: Prepared
    active: ActiveClasses
    labels: npt.NDArray[np.integer]  # (1, h, w), index into `active.vocabulary.classes`
    confidence: npt.NDArray[np.float32]  # (1, h, w), of the winning class
    raw: RawOutputs | None  # all outputs of the graph, for panoptic segmentation
    timings: dict[str, float]  # step -> milliseconds


class Smoother(Protocol):
    """Temporal smoothing of labels. Holds state: one smoother for each stream of frames, called in their order."""

    def apply(self, inferred: Inferred) -> Inferred:
        """`inferred` with steadier labels and confidence; must not change the arrays it is given."""
        ...


class FrameProcessor(Protocol):
    """The three steps of `Segmenter.predict`; see there."""

    @property
    def active(self) -> ActiveClasses:
        """The classes that the next frame is labelled with."""
        ...

    @property
    def at_once(self) -> int:
        """How many frames `infer` takes at the same time, each in its own thread."""
        ...

    def prepare(self, image: npt.NDArray[np.uint8]) -> Prepared:
        """First step: scale a frame (H, W, 3) BGR for the network."""
        ...

    def infer(self, prepared: Prepared, active: ActiveClasses | None = None) -> Inferred:
        """Second step: run the network, with `active` or the classes of this moment."""
        ...

    def finish(self, inferred: Inferred) -> Prediction:
        """Third step, in the order of the frames: bring the label map to the frame's size."""
        ...
