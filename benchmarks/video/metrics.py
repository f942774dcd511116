"""Counts on the label maps of a clip: mask IoU, unmoving pixels, flicker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def mask_iou(predicted: Mask, truth: Mask) -> float:
    """Intersection over union of two masks (H, W), 0..1; 1 for two empty masks. It is J of DAVIS."""
    union = np.count_nonzero(predicted | truth)
    return 1.0 if union == 0 else float(np.count_nonzero(predicted & truth) / union)


def unmoving(flow: npt.NDArray[np.floating], below: float) -> Mask:
    """Pixels (H, W) whose optical flow (H, W, 2), in pixels, is shorter than `below`."""
    still: Mask = np.hypot(flow[..., 0], flow[..., 1]) < below
    return still


@dataclass(frozen=True)
class Flicker:
    """Changes of labels from frame to frame, summed over a clip."""

    changed: int = 0  # pixels whose label differs from the previous frame
    counted: int = 0  # pixels counted

    def add(self, before: npt.NDArray[np.integer], now: npt.NDArray[np.integer], where: Mask | None = None) -> Flicker:
        """The sums with two more label maps (H, W), counted `where` it is True, or everywhere."""
        differs = before != now
        if where is None:
            return Flicker(self.changed + int(np.count_nonzero(differs)), self.counted + differs.size)
        return Flicker(
            self.changed + int(np.count_nonzero(differs & where)), self.counted + int(np.count_nonzero(where))
        )

    @property
    def rate(self) -> float:
        """Share of pixels that change from one frame to the next, 0..1; 0 if none was counted."""
        return self.changed / self.counted if self.counted else 0.0
