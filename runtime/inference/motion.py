"""How a frame differs from an earlier one: where it changed, and whether it is another scene.

Both on thumbnails, the network's input in grey at half its size: averaging removes most of a sensor's noise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..opencv import cv2
from .frame_processor import Prepared

Grey = npt.NDArray[np.uint8]  # (h, w)
Floats = npt.NDArray[np.float32]

# Grey levels by which a block's pixels may differ on average and still count as the same; at twice as many they surely
# changed. From 3 to 6, labels of unmoving pixels get steadier; beyond 5, those of things that move begin to lag.
STEADY = 5.0
_BLOCK = 5  # pixels of the thumbnail, over which differences are averaged
_CUT_CHANGED = 0.5  # share of a frame that changed, which it also does in a quick pan, and
_CUT_HISTOGRAM = 0.1  # share of its pixels at other grey levels: 0.15 and more between seven clips, 0.04 at most within
_BINS = 32  # of the histogram


def view(prepared: Prepared) -> Grey:
    """The frame's part of the network's input, without the padding, in grey."""
    height, width = prepared.letterbox.scaled
    grey: Grey = cv2.cvtColor(prepared.tensor[0, :height, :width], cv2.COLOR_BGR2GRAY)
    return grey


def thumbnail(view: Grey) -> Grey:
    """A view at half its size."""
    height, width = view.shape
    small: Grey = cv2.resize(view, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA)
    return small


def changed(before: Grey, now: Grey) -> Floats:
    """How surely each pixel (h, w) shows something else than `before`, 0..1. A change of exposure is no change."""
    difference = cv2.subtract(now, before, dtype=cv2.CV_32F)
    difference -= np.median(difference[::4, ::4])
    blocks = cv2.blur(np.abs(difference, out=difference), (_BLOCK, _BLOCK))
    result: Floats = np.clip(blocks / np.float32(STEADY) - 1, 0, 1)
    return result


def another_scene(before: Grey, now: Grey, change: Floats) -> bool:
    """Whether a cut lies between two thumbnails, whose `changed` is `change`."""
    if float(change.mean()) < _CUT_CHANGED:
        return False
    first, second = (cv2.calcHist([grey], [0], None, [_BINS], [0, 256]) for grey in (before, now))
    return float(np.abs(first - second).sum()) > 2 * _CUT_HISTOGRAM * now.size
