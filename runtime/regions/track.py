"""A region followed from frame to frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]  # x, y as shares of the frame's width and height, 0..1


@dataclass(frozen=True)
class Track:
    """A connected region of a class, or one segment of panoptic segmentation, with its identity, in one frame."""

    id: int  # 1, 2, 3, … in the order of appearance; never given twice by one tracker
    label: str  # of its class
    share: float  # of the frame's pixels, 0..1
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels of the frame; x1 and y1 lie just outside
    centre: Point  # mean over its pixels
    foot: Point  # middle of its lowest pixels: where a person or a car touches the ground
    confidence: float  # mean over its pixels, 0..1
    age: float  # seconds since it was first seen
    speed: float  # of its centre, in frame heights a second, over the last half second
    trail: tuple[Point, ...]  # feet of the last frames, oldest first, this one last
    mask: npt.NDArray[np.bool_] = field(repr=False, compare=False)  # (h, w) of its box on the grid of the tracker
    origin: tuple[int, int] = (0, 0)  # x, y on that grid of the mask's upper left corner
    step: int = 1  # pixels of the frame between two cells of that grid
