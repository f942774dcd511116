"""The regions of label maps and their outlines, as a labelling tool would hold them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
import pytest


def regions(labels: npt.NDArray[np.uint8]) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Connected regions of one value, not labelled ones among them, the largest first."""
    found: list[tuple[int, npt.NDArray[np.bool_]]] = []
    for value in np.unique(labels).tolist():
        count, numbered = cv2.connectedComponents((labels == value).astype(np.uint8), connectivity=4)
        found += [(value, numbered == number) for number in range(1, count)]
    # A region is filled with its holes, so what lies in them has to come later.
    yield from sorted(found, key=lambda region: -_filled(region[1]))


def _filled(region: npt.NDArray[np.bool_]) -> int:
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    return int((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1))


def outline(region: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """The outer outline, half-way between the centres of the pixels inside and outside."""
    measure = pytest.importorskip("skimage.measure")
    contours = measure.find_contours(np.pad(region, 1).astype(float), 0.5, fully_connected="low")
    outer = max(contours, key=lambda points: np.ptp(points[:, 0]) * np.ptp(points[:, 1]))
    return [(float(x) - 0.5, float(y) - 0.5) for y, x in outer[:-1]]
