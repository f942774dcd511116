"""Boundary IoU: accuracy of outlines (Cheng et al., Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation, CVPR 2021).

Only the pixels of a mask that lie within a distance of its outline count; the edge of the image is an outline as well.
Counted for all classes at once: a pixel is near the outline of its own class exactly if the square around it holds more
than one label.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...runtime.opencv import cv2

RATIO = 0.02  # the distance as a share of the image diagonal, as in the paper for COCO and LVIS

Labels = npt.NDArray[np.integer]


def outline(labels: Labels, distance: int) -> npt.NDArray[np.bool_]:
    """Pixels (H, W) with another label, or the image's edge, at most `distance` rows and columns away.

    Labels must fit int16.
    """
    stored = labels.astype(np.int16)
    square = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    near: npt.NDArray[np.bool_] = cv2.dilate(stored, square) != cv2.erode(stored, square)
    near[:distance] = near[-distance:] = near[:, :distance] = near[:, -distance:] = True
    return near


def boundary_counts(truth: Labels, predicted: Labels, classes: int, ratio: float = RATIO) -> npt.NDArray[np.int64]:
    """Pixels of each class (3, K) near outlines: in truth and prediction, in the truth, in the prediction.

    `truth` and `predicted` (H, W) are class indices; values outside 0..K-1 are no class. Pixels where
    the truth is no class are not counted, but their edge is an outline.
    """
    height, width = truth.shape
    distance = max(1, round(ratio * float(np.hypot(height, width))))
    counted = (truth >= 0) & (truth < classes)
    in_truth = counted & outline(truth, distance)
    in_prediction = counted & (predicted >= 0) & (predicted < classes) & outline(predicted, distance)
    met = truth[in_truth & in_prediction & (truth == predicted)]
    return np.stack(
        [np.bincount(part, minlength=classes) for part in (met, truth[in_truth], predicted[in_prediction])]
    ).astype(np.int64)


def boundary_iou(counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], float]:
    """Boundary IoU of each class (K,), NaN where it does not occur, and the mean over the classes of the truth."""
    met, truth, predicted = counts
    union = truth + predicted - met
    per_class = np.where(union > 0, met / np.maximum(union, 1), np.nan)
    present = truth > 0
    return per_class, float(per_class[present].mean()) if present.any() else float("nan")
