"""OpenCV's resizes as lists of pixels and weights for each axis, so that a device computes the same values.

`INTER_AREA`, `INTER_LINEAR` and `INTER_NEAREST_EXACT` are separable: each pixel of the result is a weighted sum over a
few rows, and then over a few columns. The lists depend on the sizes only. Indices and weights follow `cv::resize`
(modules/imgproc/src/resize.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...bundle.letterbox import PAD_BGR, Letterbox
from ..opencv import cv2

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_LEAST_OVERLAP = 1e-3  # of a pixel: OpenCV leaves out what overlaps by less
_UP = np.float32(1e-3)  # added before rounding half to even, where OpenCV rounds half up


@dataclass(frozen=True)
class ResizedAxis:
    """One axis of a resize: pixel i of the result is the sum over t of `weights[i, t]` times pixel `indices[i, t]`."""

    indices: Indices  # (n, T)
    weights: Floats  # (n, T)

    def padded(self, size: int) -> ResizedAxis:
        """With pixels at its end that are 0."""
        more = ((0, size - len(self.indices)), (0, 0))
        return ResizedAxis(np.pad(self.indices, more), np.pad(self.weights, more))


@dataclass(frozen=True)
class InputPlan:
    """How a frame becomes the network's input."""

    rows: ResizedAxis
    columns: ResizedAxis
    padding: Floats  # (h, w, 3), `PAD_BGR` beside and below the frame, 0 where the frame is
    rounding: Floats  # (), added before values are rounded half to even


@dataclass(frozen=True)
class FramePlan:
    """How maps of the network's size become maps of the frame's size."""

    nearest_rows: Indices  # (H,)
    nearest_columns: Indices  # (W,)
    rows: ResizedAxis  # (H, 2)
    columns: ResizedAxis  # (W, 2)


def shrinks(letterbox: Letterbox) -> bool:
    """Whether a frame loses pixels on its way into the network, and so is averaged (`INTER_AREA`)."""
    return letterbox.scaled[0] * letterbox.scaled[1] < letterbox.source[0] * letterbox.source[1]


def input_plan(letterbox: Letterbox) -> InputPlan:
    """The plan that does what `to_input` does on a CPU with a frame that `shrinks`."""
    (height, width), target = letterbox.scaled, letterbox.target
    padding = np.zeros((*target, 3), np.float32)
    padding[height:] = PAD_BGR
    padding[:height, width:] = PAD_BGR
    halved = letterbox.source == (2 * height, 2 * width)  # OpenCV has a loop of its own for these
    return InputPlan(
        _area(letterbox.source[0], height).padded(target[0]),
        _area(letterbox.source[1], width).padded(target[1]),
        padding,
        np.asarray(_UP if halved else 0, np.float32),
    )


def frame_plan(letterbox: Letterbox, size: tuple[int, int]) -> FramePlan:
    """The plan that does what `to_frame` does on a CPU, for maps of `size` (h, w) that cover the whole input."""
    height, width = letterbox.scaled_in(size)
    source = letterbox.source
    return FramePlan(
        _nearest(height, source[0]), _nearest(width, source[1]), _linear(height, source[0]), _linear(width, source[1])
    )


def _area(source: int, target: int) -> ResizedAxis:
    """Each pixel of the result is the mean over the pixels that it covers, parts of pixels by their share."""
    scale = source / target
    start = np.arange(target) * scale
    end = np.minimum(start + scale, source)
    places = np.floor(start).astype(np.int64)[:, None] + np.arange(int(np.ceil(scale)) + 1)
    overlap = np.minimum(end[:, None], places + 1) - np.maximum(start[:, None], places)
    overlap[overlap < _LEAST_OVERLAP] = 0
    weights = overlap / (end - start)[:, None]
    return ResizedAxis(np.minimum(places, source - 1), weights.astype(np.float32))


def _linear(source: int, target: int) -> ResizedAxis:
    """Between the two nearest pixels; the outermost repeat beyond the edge."""
    centre = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    below = np.floor(centre)
    share = np.where((below < 0) | (below >= source - 1), np.float32(0), centre - below)
    first = np.clip(below, 0, source - 1).astype(np.int64)
    indices = np.stack((first, np.minimum(first + 1, source - 1)), 1)
    return ResizedAxis(indices, np.stack((1 - share, share), 1).astype(np.float32))


def _nearest(source: int, target: int) -> Indices:
    places = np.arange(source, dtype=np.float32)[:, None]
    return np.asarray(cv2.resize(places, (1, target), interpolation=cv2.INTER_NEAREST_EXACT)[:, 0], np.int64)
