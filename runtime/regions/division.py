"""A component in which several regions are expected, divided among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..opencv import cv2
from .components import Component, Mask, common, cut_out, moved_by

_COARSE = ((-2, -2), (-2, 0), (-2, 2), (0, -2), (0, 2), (2, -2), (2, 0), (2, 2))  # cells aside
_FINE = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
_OWN = 2.0  # worth of a cell that no other region covers, beside one of the component


def fitted(shapes: Sequence[Component], whole: Component) -> list[Component]:
    """The shapes, each moved up to three cells to where they best explain `whole` together."""
    placed = list(shapes)
    for place in range(len(placed)):
        others = placed[:place] + placed[place + 1 :]
        rest = replace(whole, mask=whole.mask & ~_covered(others, whole))
        for steps in (_COARSE, _FINE):
            here = placed[place]
            worth = [(_OWN * common(one, rest) + common(one, whole), one) for one in (here, *_around(here, steps))]
            best = max(value for value, _ in worth)
            # The expected place stands unless another one is clearly better.
            if best > worth[0][0] + 1:
                placed[place] = next(one for value, one in worth if value == best)
    return placed


def _around(one: Component, steps: Sequence[tuple[int, int]]) -> list[Component]:
    return [moved_by(one, dx, dy) for dx, dy in steps]


def _covered(shapes: Sequence[Component], whole: Component) -> Mask:
    x0, y0, x1, y1 = whole.box
    found = np.zeros(whole.mask.shape, np.bool_)
    for one in shapes:
        left, top, right, bottom = one.box
        ax, ay, bx, by = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
        if ax < bx and ay < by:
            found[ay - y0 : by - y0, ax - x0 : bx - x0] |= one.mask[ay - top : by - top, ax - left : bx - left]
    return found


def divide(whole: Component, expected: Sequence[Component]) -> list[Component | None]:
    """The part of `whole` that belongs to each of the `expected` regions, None where nothing is left for one.

    A cell belongs to the region whose expected mask it is in, of several to the smallest; any other cell to the region
    nearest to it.
    """
    x0, y0, x1, y1 = whole.box
    owner = np.zeros(whole.mask.shape, np.uint8)
    order = sorted(range(len(expected)), key=lambda place: -expected[place].area)
    for place in order[:254]:
        one = expected[place]
        left, top, right, bottom = one.box
        ax, ay, bx, by = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
        if ax < bx and ay < by:
            inside = one.mask[ay - top : by - top, ax - left : bx - left]
            owner[ay - y0 : by - y0, ax - x0 : bx - x0][inside] = place + 1
    owner[~whole.mask] = 0
    if not owner.any():
        return [None] * len(expected)
    nearest = _nearest(owner)
    nearest[~whole.mask] = 0
    return [
        cut_out(nearest == place + 1, whole.index, (x0, y0)) if (nearest == place + 1).any() else None
        for place in range(len(expected))
    ]


def _nearest(owner: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """`owner` (h, w) with each zero replaced by the nearest other value."""
    empty = (owner == 0).astype(np.uint8)
    _, cells = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    # Every cell that is not empty has a label of its own; the others have that of the nearest one.
    values = np.zeros(int(cells.max()) + 1, np.uint8)
    taken = owner > 0
    values[cells[taken]] = owner[taken]
    found: npt.NDArray[np.uint8] = values[cells]
    return found
