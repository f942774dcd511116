"""Video consistency (VSPW: Miao et al., CVPR 2021).

VC-n of a window of n frames is the share of pixels with constant truth whose prediction is constant as well. It is
counted exactly as in the published script: "not labelled" is a value of the truth like any other, the last window of a
clip is left out, a window without constant truth is not counted, and the mean is over all windows of all clips. The
prediction is never compared with the truth, so a constant prediction has 100 %.

The strict variant requires the prediction to be constant and correct, and leaves out unlabelled pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LENGTHS = (8, 16)  # frames of a window

Labels = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Consistency:
    """Sums over windows; they can be added over clips."""

    total: float = 0.0  # of the windows' shares
    windows: int = 0  # windows that have a pixel of constant truth
    strict_total: float = 0.0  # of the shares of correct predictions
    strict_windows: int = 0  # windows that have a labelled pixel of constant truth

    def __add__(self, other: Consistency) -> Consistency:
        return Consistency(
            self.total + other.total,
            self.windows + other.windows,
            self.strict_total + other.strict_total,
            self.strict_windows + other.strict_windows,
        )

    @property
    def value(self) -> float | None:
        """VC as published, 0..1; None without a window."""
        return self.total / self.windows if self.windows else None

    @property
    def strict(self) -> float | None:
        """The strict variant, 0..1; None without a window."""
        return self.strict_total / self.strict_windows if self.strict_windows else None


class ConsistencyCounter:
    """Counts over the frames of one clip, for one length of windows.

    Stores for every pixel for how many frames truth and prediction have been constant, instead of the frames.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._truth: Labels | None = None
        self._predicted: Labels | None = None
        self._truth_since = np.zeros(0, np.int32)  # (H, W) frames for which the truth has been the same, this included
        self._predicted_since = np.zeros(0, np.int32)
        self._frames = 0
        self._last = Consistency()  # of the newest window: counted when another follows

        self.sums = Consistency()

    def add(self, truth: Labels, predicted: Labels) -> None:
        """The next frame: class indices (H, W), the truth below 0 where it is not labelled.

        Raises `ValueError` for a frame of another size.
        """
        if self._truth is None or self._predicted is None:
            self._truth_since = np.ones(truth.shape, np.int32)
            self._predicted_since = np.ones(truth.shape, np.int32)
        else:
            if truth.shape != self._truth.shape:
                raise ValueError(f"a frame of {truth.shape} follows one of {self._truth.shape}")
            self._truth_since = np.where(truth == self._truth, self._truth_since + 1, 1)
            self._predicted_since = np.where(predicted == self._predicted, self._predicted_since + 1, 1)
        self._truth, self._predicted = truth, predicted
        self._frames += 1
        if self._frames < self._length:
            return
        self.sums += self._last
        constant = self._truth_since >= self._length
        steady = constant & (self._predicted_since >= self._length)
        labelled = constant & (truth >= 0)
        self._last = _window(int(steady.sum()), int(constant.sum())) + _strict(
            int((steady & labelled & (truth == predicted)).sum()), int(labelled.sum())
        )


def _window(steady: int, constant: int) -> Consistency:
    return Consistency(total=steady / constant, windows=1) if constant else Consistency()


def _strict(right: int, labelled: int) -> Consistency:
    return Consistency(strict_total=right / labelled, strict_windows=1) if labelled else Consistency()
