"""What a region looks like: the colours of its upper and its lower half."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..opencv import cv2
from .components import Component

# Brightness in eight steps, finer where it is dark: most clothes are. Red and blue each less than green, as much, or more.
_BRIGHTNESS = (np.sqrt(np.arange(256) / 256) * 8).astype(np.uint8) * 9 + 4
_TINTED = 12  # grey levels from which red or blue is less or more than green
_BINS = 72

_ONES = np.ones(2 * _BINS, np.float32)  # a product with it is quicker than a sum

Codes = npt.NDArray[np.uint8]  # (h, w), colours of the grid's cells as numbers below _BINS
Colours = npt.NDArray[np.float32]  # (2 * _BINS,), shares of the region's cells; of both halves together 1


def colour_codes(image: npt.NDArray[np.uint8], step: int) -> Codes:
    """The colours of every `step`th pixel of `image` (H, W, 3) BGR."""
    blue, green, red = (np.ascontiguousarray(image[::step, ::step, place]) for place in range(3))
    brightness = (blue.astype(np.uint16) + red + green + green) >> 2
    codes = cv2.LUT(brightness.astype(np.uint8), _BRIGHTNESS)
    for colour, weight in ((red, 3), (blue, 1)):
        codes += np.uint8(weight) & (cv2.subtract(colour, green) >= _TINTED).view(np.uint8) * np.uint8(255)
        codes -= np.uint8(weight) & (cv2.subtract(green, colour) >= _TINTED).view(np.uint8) * np.uint8(255)
    found: Codes = codes
    return found


def colours_of(one: Component, codes: Codes) -> Colours:
    """The colours of a region."""
    x0, y0, x1, y1 = one.box
    cells = codes[y0:y1, x0:x1][one.mask]
    cells[np.count_nonzero(one.mask[: (y1 - y0) // 2]) :] += np.uint8(_BINS)  # those of the lower half
    colours: Colours = np.bincount(cells, minlength=2 * _BINS).astype(np.float32)
    colours /= max(1, one.area)
    return colours


def likeness(one: Colours, other: Colours) -> float:
    """From 0, no colour in common, to 1, the same (Bhattacharyya coefficient, as in Comaniciu et al. 2003, section 3)."""
    return float(np.sqrt(one * other) @ _ONES)
