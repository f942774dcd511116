"""The regions of one frame on a coarse grid: connected components of each class, or segments of things."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..inference.prediction import Prediction
from ..opencv import cv2

GRID = 256  # cells of the longest side at most: fine enough for a person of 20 pixels in VGA, and 15 times quicker
_LEAST = 0.0003  # share of the frame below which a component is a speck
_MOST = 100  # components of a class, the largest

_LOW = 0.12  # share of a region's height that counts as its foot

Mask = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in cells; x1 and y1 lie just outside


@dataclass(frozen=True)
class Component:
    """Connected cells of one class, or the cells of one segment."""

    index: int  # of its class
    box: Box
    area: int  # cells
    mask: Mask  # (h, w) of its box
    mean: tuple[float, float] | None = None  # x, y of its cells, where that is known already


@dataclass(frozen=True)
class Grid:
    """A frame's labels on every `step`th pixel of every `step`th row."""

    labels: npt.NDArray[np.integer]  # (h, w), index into the classes; the value of no class is past the last one
    segments: npt.NDArray[np.int32] | None  # (h, w), ids of panoptic segmentation
    step: int  # pixels between two cells

    @classmethod
    def of(cls, prediction: Prediction) -> Grid:
        """The grid of `prediction`."""
        step = -(-max(prediction.labels.shape) // GRID)
        labels = prediction.labels[::step, ::step]
        # -1 becomes 255: bytes are compared and counted several times quicker than 32-bit numbers.
        small = labels.astype(np.uint8) if len(prediction.classes) < 255 else labels
        ids = prediction.segment_map
        return cls(small, None if ids is None else ids[::step, ::step], step)


def components(prediction: Prediction, grid: Grid) -> list[Component]:
    """The regions of a frame, without specks; those of one class together, largest first."""
    least = max(4, round(_LEAST * grid.labels.size))
    if grid.segments is not None:
        found = []
        for segment in prediction.segments:
            mask = grid.segments == segment.id
            if not segment.thing:
                found += list(_connected(mask, segment.index, least))
            elif np.count_nonzero(mask) >= least:
                found.append(cut_out(mask, segment.index))
        return sorted(found, key=lambda one: (one.index, -one.area))
    counts = np.bincount(grid.labels.ravel(), minlength=256) if grid.labels.dtype == np.uint8 else None
    found = []
    for index in range(len(prediction.classes)):
        if counts is not None and counts[index] < least:
            continue
        found += list(_connected(grid.labels == index, index, least))
    return found


def _connected(mask: Mask, index: int, least: int) -> Iterator[Component]:
    _, numbers, stats, means = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8, ltype=cv2.CV_16U)
    areas = stats[1:, cv2.CC_STAT_AREA]
    for number in np.argsort(-areas, kind="stable")[:_MOST] + 1:
        x, y, width, height, area = stats[number].tolist()
        if area < least:
            return
        cells = numbers[y : y + height, x : x + width] == number
        across, down = means[number].tolist()
        yield Component(index, (x, y, x + width, y + height), area, cells, (across, down))


def cut_out(mask: Mask, index: int, origin: tuple[int, int] = (0, 0)) -> Component:
    """`mask`, which is not empty and starts at `origin` x, y of the grid, as a component with the smallest box."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    inside = mask[y0:y1, x0:x1]
    box = (x0 + origin[0], y0 + origin[1], x1 + origin[0], y1 + origin[1])
    return Component(index, box, int(np.count_nonzero(inside)), inside)


def moved_by(one: Component, dx: int, dy: int) -> Component:
    """`one` shifted by cells to the right and down; it may lie outside the grid then."""
    x0, y0, x1, y1 = one.box
    mean = None if one.mean is None else (one.mean[0] + dx, one.mean[1] + dy)
    return Component(one.index, (x0 + dx, y0 + dy, x1 + dx, y1 + dy), one.area, one.mask, mean)


def common(one: Component, other: Component) -> int:
    """Cells that both have."""
    x0, y0 = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    x1, y1 = min(one.box[2], other.box[2]), min(one.box[3], other.box[3])
    if x0 >= x1 or y0 >= y1:
        return 0
    first = one.mask[y0 - one.box[1] : y1 - one.box[1], x0 - one.box[0] : x1 - one.box[0]]
    second = other.mask[y0 - other.box[1] : y1 - other.box[1], x0 - other.box[0] : x1 - other.box[0]]
    return int(np.count_nonzero(first & second))


def union(pieces: list[Component]) -> Component:
    """The cells of all pieces as one component, whether they touch or not."""
    if len(pieces) == 1:
        return pieces[0]
    x0, y0 = min(one.box[0] for one in pieces), min(one.box[1] for one in pieces)
    x1, y1 = max(one.box[2] for one in pieces), max(one.box[3] for one in pieces)
    whole = np.zeros((y1 - y0, x1 - x0), np.bool_)
    for one in pieces:
        left, top, right, bottom = one.box
        whole[top - y0 : bottom - y0, left - x0 : right - x0] |= one.mask
    return cut_out(whole, pieces[0].index, (x0, y0))


def centre_of(one: Component) -> tuple[float, float]:
    """The middle of its cells: mean x, y."""
    if one.mean is not None:
        return one.mean[0] + 0.5, one.mean[1] + 0.5
    columns, rows = one.mask.sum(axis=0), one.mask.sum(axis=1)
    x = float(columns @ np.arange(len(columns))) / one.area
    y = float(rows @ np.arange(len(rows))) / one.area
    return one.box[0] + x + 0.5, one.box[1] + y + 0.5


def foot_of(one: Component) -> tuple[float, float]:
    """Mean x of its lowest cells, and y of its lower end: where a person or a car touches the ground."""
    columns = np.flatnonzero(one.mask[-max(1, round(_LOW * len(one.mask))) :].any(axis=0))
    return one.box[0] + sum(columns.tolist()) / len(columns) + 0.5, float(one.box[3])
