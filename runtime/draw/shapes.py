"""Boxes with round corners, and whether two boxes overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..opencv import cv2

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 lie just outside

_PANEL = (24, 22, 20)  # BGR of the ground of text
_PANEL_OPACITY = 0.72


def panel(canvas: Image, box: Box, radius: int) -> None:
    """Darken a rounded box, so that light text is readable on any picture."""
    x0, y0, x1, y1 = max(box[0], 0), max(box[1], 0), min(box[2], canvas.shape[1]), min(box[3], canvas.shape[0])
    part = canvas[y0:y1, x0:x1]
    ground = part.copy()
    rounded(ground, (0, 0, x1 - x0, y1 - y0), _PANEL, radius)
    part[:] = cv2.addWeighted(part, 1 - _PANEL_OPACITY, ground, _PANEL_OPACITY, 0)


def rounded(canvas: Image, box: Box, colour: tuple[int, int, int], radius: int) -> None:
    """Fill a box x0, y0, x1, y1 with round corners."""
    x0, y0, x1, y1 = box[0], box[1], box[2] - 1, box[3] - 1
    radius = max(0, min(radius, (x1 - x0) // 2, (y1 - y0) // 2))
    cv2.rectangle(canvas, (x0 + radius, y0), (x1 - radius, y1), colour, cv2.FILLED)
    cv2.rectangle(canvas, (x0, y0 + radius), (x1, y1 - radius), colour, cv2.FILLED)
    for x in (x0 + radius, x1 - radius):
        for y in (y0 + radius, y1 - radius):
            cv2.circle(canvas, (x, y), radius, colour, cv2.FILLED, cv2.LINE_AA)


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes have a pixel in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
