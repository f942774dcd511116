"""Edges and specks: labels that follow the edges of the frame, and no meaningless small regions. Both are optional.

Edges: a label is decided again where the network is not sure of it. The evidence for each label, at a quarter of the
network's resolution, is fitted locally as a linear function of the frame's colours, and the function is evaluated on
the frame itself (He and Sun, Fast Guided Filter, 2015; colour guide: He et al., Guided Image Filtering, PAMI 2013).

Specks and holes: connected regions below a share of the frame take the label of the nearest pixel outside of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ...bundle.letterbox import Letterbox
from ..opencv import cv2

_GRID = 0.25  # of the network's resolution, at which the filter is fitted
_RADIUS = 8  # of its windows, in cells of that grid
_SMOOTH = 1e-4  # variance of the colours, 0..1, below which a window counts as without an edge
# Confidence below which a pixel is decided again. It and `_SMOOTH` were chosen on training photos with `dense_mini`, all
# names competing. Boundary IoU (mean IoU):
#
#                               voc            msrc           coco_panoptic  coco_things    camvid
#   photos                      120            120            100            100            100
#   not refined                 0.285 (0.871)  0.610 (0.938)  0.426 (0.694)  0.219 (0.671)  0.481 (0.628)
#   below 0.6, variance 1e-3    0.296 (0.883)  0.615 (0.938)  0.438 (0.700)  0.211 (0.662)  0.477 (0.622)
#   below 0.7, variance 1e-4    0.314 (0.882)  0.621 (0.938)  0.451 (0.700)  0.221 (0.659)  0.476 (0.616)
#
# Thin things lose, so it is off by default. Below 0.75, or in windows of 12 cells, CamVid loses more. 6 to 25 ms a frame.
_SURE = 0.7
_COLUMNS = 16384  # OpenCV's remap takes no more than 32767

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Refinement:
    """What is done with the labels of a frame. Raises `UsageError` for a share out of range."""

    edges: bool = False  # labels follow the edges of the frame where the network is not sure
    least_region: float = 0.0  # share of the frame, 0..1, below which connected regions are removed; 0: none

    def __post_init__(self) -> None:
        if not 0 <= self.least_region < 1:
            raise UsageError(f"the least region is {self.least_region:g}, expected a share of the frame from 0 to 1")


UNREFINED = Refinement()


def follow_edges(
    labels: Labels, frame_labels: Labels, confidence: Floats, image: npt.NDArray[np.uint8], letterbox: Letterbox
) -> Labels:
    """Labels (H, W) of the frame, decided again along the frame's edges.

    `labels` (h, w) cover the network's input, `frame_labels` (H, W) are the same resized to the frame `image` (H, W, 3)
    BGR, `confidence` (H, W) is that of `frame_labels`. A label is any integer.
    """
    height, width = letterbox.scaled_in(labels.shape)
    inside = labels[:height, :width]
    present = np.unique(inside)
    unsure = np.flatnonzero(confidence < _SURE)
    if len(present) < 2 or not len(unsure):
        return frame_labels
    grid = (max(1, round(width * _GRID)), max(1, round(height * _GRID)))
    guide = cv2.resize(image, grid, interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255)
    fit = _ColourFit(np.atleast_3d(guide))
    rows, columns = np.divmod(unsure, image.shape[1])
    colours = image[rows, columns].astype(np.float32) / np.float32(255)
    # Centres of the frame's pixels in the grid's coordinates.
    x = ((columns + 0.5) * (grid[0] / image.shape[1]) - 0.5).astype(np.float32)
    y = ((rows + 0.5) * (grid[1] / image.shape[0]) - 0.5).astype(np.float32)
    best = np.full(len(unsure), -np.inf, np.float32)
    found = np.empty(len(unsure), np.int32)
    for label in present.tolist():
        evidence = cv2.resize((inside == label).astype(np.float32), grid, interpolation=cv2.INTER_AREA)
        coefficients = _sampled(fit.coefficients(evidence), x, y)
        value = np.einsum("nc,nc->n", coefficients[:, :3], colours) + coefficients[:, 3]
        higher = value > best
        best[higher], found[higher] = value[higher], label
    refined = frame_labels.copy()
    refined.ravel()[unsure] = found
    return refined


class _ColourFit:
    """Local linear fits of maps (h, w) by the colours of a guide (h, w, 3), 0..1."""

    def __init__(self, guide: Floats) -> None:
        self._guide = guide
        self._mean = _box(guide)
        spread = np.empty((*guide.shape[:2], 3, 3), np.float32)
        for i in range(3):
            for j in range(i, 3):
                covariance = _box(guide[..., i] * guide[..., j]) - self._mean[..., i] * self._mean[..., j]
                spread[..., i, j] = spread[..., j, i] = covariance
        spread += np.float32(_SMOOTH) * np.eye(3, dtype=np.float32)
        self._inverse = np.linalg.inv(spread)

    def coefficients(self, evidence: Floats) -> Floats:
        """Factors of the three colours and the constant (h, w, 4), averaged over all windows of a cell."""
        mean = _box(evidence)
        shared = _box(self._guide * evidence[..., None]) - self._mean * mean[..., None]
        factors = np.einsum("hwij,hwj->hwi", self._inverse, shared)
        constant = mean - np.einsum("hwc,hwc->hw", factors, self._mean)
        return _box(np.dstack([factors, constant]))


def _box(values: Floats) -> Floats:
    """Mean over the window around each cell; the guide's edge is mirrored."""
    side = 2 * _RADIUS + 1
    result: Floats = cv2.blur(np.ascontiguousarray(values, np.float32), (side, side), borderType=cv2.BORDER_REFLECT)
    return result


def _sampled(maps: Floats, x: Floats, y: Floats) -> Floats:
    """Values (N, 4) of maps (h, w, 4) at the points x, y (N,), interpolated."""
    count = len(x)
    columns = min(count, _COLUMNS)
    padded = -(-count // columns) * columns
    points = [np.pad(axis, (0, padded - count)).reshape(-1, columns) for axis in (x, y)]
    values = cv2.remap(maps, *points, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    result: Floats = values.reshape(-1, maps.shape[2])[:count]
    return result


def without_small_regions(labels: Labels, least: float) -> Labels:
    """Labels (H, W) whose connected regions below `least` of the picture have the label of what lies nearest to them.

    Where no region is large enough, the labels stay as they are.
    """
    small = np.zeros(labels.shape, np.bool_)
    for label in np.unique(labels).tolist():
        _, parts, stats, _ = cv2.connectedComponentsWithStats((labels == label).view(np.uint8), connectivity=8)
        tiny = stats[:, cv2.CC_STAT_AREA] < least * labels.size
        tiny[0] = False  # what is not this label
        if tiny.any():
            small |= tiny[parts]
    if not small.any() or small.all():
        return labels
    _, nearest = cv2.distanceTransformWithLabels(
        small.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(nearest.max()) + 1, np.int32)
    table[nearest[~small]] = labels[~small]
    return np.where(small, table[nearest], labels)
