"""What a region looks like: the colours of its upper and its lower half."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .components import Component

_BINS = 64  # four steps of each of three colours

Codes = npt.NDArray[np.uint8]  # (h, w), colours of the grid's cells as numbers below _BINS
Colours = npt.NDArray[np.float32]  # (2 * _BINS,), shares of the region's cells; of both halves together 1


def colour_codes(image: npt.NDArray[np.uint8], step: int) -> Codes:
    """The colours of every `step`th pixel of `image` (H, W, 3) BGR."""
    small = image[::step, ::step] >> 6
    return (small[..., 0] << 4 | small[..., 1] << 2 | small[..., 2]).astype(np.uint8, copy=False)


def colours_of(one: Component, codes: Codes) -> Colours:
    """The colours of a region."""
    x0, y0, x1, y1 = one.box
    part, middle = codes[y0:y1, x0:x1], (y1 - y0) // 2
    upper = np.bincount(part[:middle][one.mask[:middle]], minlength=_BINS)
    lower = np.bincount(part[middle:][one.mask[middle:]], minlength=_BINS)
    colours: Colours = np.concatenate([upper, lower]).astype(np.float32)
    colours /= max(1, one.area)
    return colours


def likeness(one: Colours, other: Colours) -> float:
    """From 0, no colour in common, to 1, the same (histogram intersection, Swain and Ballard 1991)."""
    return float(np.minimum(one, other).sum())
