"""Regions as polygons: one for each connected piece, with its holes joined to the outer outline by a cut.

Outlines run a quarter of a pixel inside the edges of pixels. So a pixel is inside where its centre is, as COCO, CVAT and
LabelMe decide, and also where coordinates are cut to whole pixels and the outline itself is filled, as OpenCV does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...runtime.opencv import cv2
from .regions import LabelledRegion

Points = npt.NDArray[np.float64]  # (N, 2) x, y in pixels; the corner of the picture is (0, 0)


def outlines(region: LabelledRegion, tolerance: float = 0.0) -> list[Points]:
    """The polygons of a region. `tolerance` in pixels: how far points may be left out of the outline for fewer of them."""
    doubled = region.mask.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    contours, family = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    shift = np.array(region.box[:2], np.float64)
    points = [shift + (_simplified(contour, tolerance).reshape(-1, 2) + 0.5) / 2 for contour in contours]
    parents = np.asarray(family)[0, :, 3]
    joined = []
    for outer in np.flatnonzero(parents < 0).tolist():
        holes = [points[hole] for hole in np.flatnonzero(parents == outer).tolist() if len(points[hole]) > 2]
        joined.append(_joined(points[outer], holes))
    return joined


def _simplified(contour: npt.NDArray[np.int32], tolerance: float) -> npt.NDArray[np.int32]:
    """Douglas and Peucker's; what would be no polygon any more stays as it is."""
    if tolerance <= 0:
        return contour
    fewer = cv2.approxPolyDP(contour, 2 * tolerance, closed=True)
    return contour if len(fewer) < 4 else np.asarray(fewer, np.int32)


def _joined(outline: Points, holes: list[Points]) -> Points:
    """The outline with a cut to each hole: from the hole's leftmost point to the left, there and back.

    Horizontal cuts cross no row of pixels' centres, so that they change no pixel.
    """
    for hole in sorted(holes, key=lambda points: float(points[:, 0].min())):
        first = int(np.argmin(hole[:, 0]))
        x, y = hole[first]
        after = np.roll(outline, -1, 0)
        low, high = np.minimum(outline[:, 1], after[:, 1]), np.maximum(outline[:, 1], after[:, 1])
        slope = np.divide(after[:, 0] - outline[:, 0], after[:, 1] - outline[:, 1],
                          out=np.zeros(len(outline)), where=high > low)  # fmt: skip
        meets = np.where(
            high > low, outline[:, 0] + (y - outline[:, 1]) * slope, np.maximum(outline[:, 0], after[:, 0])
        )
        meets[(low > y) | (high < y) | (meets > x)] = -np.inf
        edge = int(np.argmax(meets))
        if not np.isfinite(meets[edge]):  # simplified until the hole lies outside
            continue
        cut = np.array([[meets[edge], y]])
        around = np.roll(hole, -first, 0)
        outline = np.concatenate((outline[: edge + 1], cut, around, around[:1], cut, outline[edge + 1 :]))
    return outline


def flat(polygon: Points) -> list[float]:
    """[x1, y1, x2, y2, …], to a thousandth of a pixel."""
    values: list[float] = polygon.round(3).ravel().tolist()
    return values
