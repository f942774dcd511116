"""Frame to network input, and label map back to frame: the two resizes around the network."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.letterbox import PAD_BGR, Letterbox
from ..engines.session import Session
from ..opencv import cv2

Labels = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class Resizes(Protocol):
    """Both resizes on the device of a session; see `device_frames.resizer.DeviceFrames`."""

    def to_input(
        self, image: npt.NDArray[np.uint8], size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], Letterbox] | None:
        """`to_input` below; None leaves it to the CPU."""
        ...

    def to_frame(
        self, labels: Labels, confidence: Floats, letterbox: Letterbox, thresholds: Floats
    ) -> tuple[Labels, Floats]:
        """`to_frame` below, then -1 for a label whose confidence is below its entry of `thresholds` (N + 1,)."""
        ...


def device_resizes(session: Session) -> Resizes | None:
    """The resizes of a session that keeps frames on its device; None for any other."""
    found: Resizes | None = getattr(session, "frames", None)
    return found


def to_input(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Letterbox]:
    """Scale a frame (H, W, 3) BGR into `size` (height, width), aspect kept, padded at the right and bottom.

    Returns uint8 (1, height, width, 3) BGR and the geometry that undoes it. Mean and std are inside the graph.
    """
    letterbox = Letterbox.fit(image.shape[:2], size)
    height, width = letterbox.scaled
    # Averaging over source pixels avoids aliasing when shrinking; it degenerates to blocks when enlarging.
    shrinks = height * width < image.shape[0] * image.shape[1]
    tensor = np.empty((1, *size, 3), np.uint8)
    inside, padding = tensor[0, :height, :width], _padding(size)
    cv2.resize(image, (width, height), inside, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    tensor[0, height:] = padding[height:]
    tensor[0, :height, width:] = padding[:height, width:]
    return tensor, letterbox


@lru_cache(maxsize=4)
def _padding(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An input (height, width, 3) of padding alone. NumPy copies from it in a tenth of the time of three values."""
    whole = np.empty((*size, 3), np.uint8)
    whole[:] = PAD_BGR
    whole.setflags(write=False)
    return whole


def to_frame(
    labels: npt.NDArray[np.int32], confidence: npt.NDArray[np.float32], letterbox: Letterbox
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Cut the padding off maps (h, w) that cover the network's input, and resize them to the frame (H, W).

    Labels take the nearest value, since the mean of two classes is neither; confidence is interpolated.
    """
    height, width = letterbox.scaled_in(labels.shape[:2])
    size = (letterbox.source[1], letterbox.source[0])
    return (
        cv2.resize(np.ascontiguousarray(labels[:height, :width]), size, interpolation=cv2.INTER_NEAREST_EXACT),
        cv2.resize(np.ascontiguousarray(confidence[:height, :width]), size, interpolation=cv2.INTER_LINEAR),
    )
