"""A segmenter whose network answers from a script: what happens to its answers can then be tested exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ovs_edge.bundle.vocabulary import ClassNames, Vocabulary
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.inference.frame_processor import ActiveClasses, Inferred, Prepared
from ovs_edge.runtime.inference.preprocess import to_input

Labels = npt.NDArray[np.int32]


class Scripted:
    """`prepare` and `infer` of a segmenter with input `size`; `answer(count)` gives the labels (h, w) of each call."""

    def __init__(self, size: tuple[int, int], answer: Callable[[int], Labels], classes: Sequence[str] = ("a", "b")):
        self.size, self.answer = size, answer
        self.calls = 0
        self.change(classes)

    def change(self, classes: Sequence[str], version: int = 1) -> None:
        """Ask for other classes."""
        entries = tuple(ClassNames(name, (name,)) for name in classes)
        vocabulary = Vocabulary(entries, np.ones((len(entries), 1, 3), np.float32))
        self.active = ActiveClasses(vocabulary, len(entries), (True,) * len(entries), version)

    def prepare(self, image: npt.NDArray[np.uint8]) -> Prepared:
        return Prepared(image, *to_input(image, self.size), {})

    at_once = 1

    def infer(self, prepared: Prepared, active: ActiveClasses | None = None) -> Inferred:
        labels = self.answer(self.calls)[None]
        self.calls += 1
        confidence = np.full(labels.shape, 0.8, np.float32)
        return Inferred(prepared, active or self.active, labels, confidence, None, {"model": 1.0})

    def see(self, image: npt.NDArray[np.uint8]) -> Inferred:
        """Both steps."""
        return self.infer(self.prepare(image))


def textured(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth random texture (H, W, 3), which optical flow can follow."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def frames(images: Sequence[npt.NDArray[np.uint8]]) -> list[Frame]:
    """Images as the frames of a source."""
    return [Frame(image, index, index / 25, f"frame_{index}") for index, image in enumerate(images)]
