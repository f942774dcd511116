"""A class's pixels as connected parts: three pedestrians are three parts of one class, each with its own box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..opencv import cv2
from .prediction import Prediction

_LEAST = 0.0002  # share of the frame below which a part is a speck
_MOST = 100  # parts of a class, the largest

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """Connected pixels of one class."""

    label: str  # of its class
    share: float  # of the frame's pixels, 0..1
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 lie just outside
    centroid: tuple[float, float]  # x, y in pixels, mean over the part's pixels
    confidence: float  # mean over the part's pixels, 0..1
    mask: Mask  # (h, w) of the box: which of its pixels belong to the part


def connected_parts(prediction: Prediction, label: str, *, complete: bool = False) -> tuple[Part, ...]:
    """The parts of the class `label`, largest first. Raises `UsageError` for a label not in use.

    Specks, below 0.0002 of the frame, and all beyond the hundred largest are left out, unless it is to be `complete`: then
    the parts together are the class's mask.
    """
    mask = prediction.mask(label)
    _, numbers, stats, centroids = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    parts = []
    for index in np.argsort(-areas, kind="stable")[: None if complete else _MOST] + 1:
        x, y, width, height, area = (int(value) for value in stats[index])
        if area < _LEAST * mask.size and not complete:
            break
        inside = numbers[y : y + height, x : x + width] == index
        scores = prediction.confidence[y : y + height, x : x + width][inside]
        parts.append(
            Part(
                label=label,
                share=area / mask.size,
                box=(x, y, x + width, y + height),
                centroid=(float(centroids[index][0]), float(centroids[index][1])),
                confidence=float(scores.mean()),
                mask=inside,
            )
        )
    return tuple(parts)


def polygons(part: Part) -> list[list[list[int]]]:
    """Outlines of a part, each a list of [x, y] in the frame's pixels: the outer one first, then those of holes."""
    x0, y0, _, _ = part.box
    found, _ = cv2.findContours(part.mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x0, y0))
    outlines = [contour.reshape(-1, 2).tolist() for contour in found]
    return sorted(outlines, key=lambda outline: -float(cv2.contourArea(np.array(outline, np.int32))))


def frame_mask(part: Part, size: tuple[int, int]) -> Mask:
    """The part's mask (H, W) in a frame of `size`."""
    x0, y0, x1, y1 = part.box
    whole = np.zeros(size, np.bool_)
    whole[y0:y1, x0:x1] = part.mask
    return whole
