"""Zones as masks on the tracker's grid: which class covers how much of each, and which regions are in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..inference.prediction import Prediction
from ..opencv import cv2
from ..regions.components import Grid
from ..regions.track import Track
from .places import FRAME, Anchor, Places, Zone

_EDGE = 1e-6  # by which a point may be off where numbers have 32 bits

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Located:
    """Where the classes and regions of one frame are."""

    coverage: Mapping[str, Mapping[str, float]]  # zone -> label -> percent of the zone's cells
    inside: Mapping[str, frozenset[int]]  # zone -> ids of the regions that are in it


@dataclass(frozen=True)
class _ZoneMask:
    zone: Zone
    contour: npt.NDArray[np.float32]  # (N, 1, 2) x, y, shares of width and height
    bounds: tuple[float, float, float, float]  # x0, y0, x1, y1 around the contour
    origin: tuple[int, int]  # x, y of the mask's upper left cell
    mask: Mask  # (h, w) of the zone's box: cells in the zone
    cells: int


class PlaceMasks:
    """The zones of `places`, drawn once for each size of the grid."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self._shape = (0, 0)
        self._zones: tuple[_ZoneMask, ...] = ()

    def locate(self, prediction: Prediction, grid: Grid | None = None) -> Located:
        """Coverage of each zone, and the tracked regions in it; `grid` is the prediction's, where it is known."""
        grid = Grid.of(prediction) if grid is None else grid
        if grid.labels.shape != self._shape:
            self._shape = grid.labels.shape
            self._zones = tuple(_drawn(zone, self._shape) for zone in self.places.zones)
        coverage = {FRAME: _shares(grid.labels.ravel(), prediction.classes)}
        inside = {FRAME: frozenset(track.id for track in prediction.tracks)}
        for one in self._zones:
            x, y = one.origin
            height, width = one.mask.shape
            part = grid.labels[y : y + height, x : x + width]
            coverage[one.zone.name] = _shares(part[one.mask], prediction.classes)
            inside[one.zone.name] = frozenset(track.id for track in prediction.tracks if _is_in(track, one))
        return Located(coverage, inside)


def _shares(labels: npt.NDArray[np.integer], classes: tuple[str, ...]) -> dict[str, float]:
    if labels.dtype == np.uint8:
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()[: len(classes)]  # exact below 2**24 cells
    else:
        counts = np.bincount(labels + 1, minlength=len(classes) + 1)[1:]
    return {label: 100.0 * int(count) / max(1, labels.size) for label, count in zip(classes, counts, strict=True)}


def _drawn(zone: Zone, shape: tuple[int, int]) -> _ZoneMask:
    """The cells whose centres are in the zone; at least the one in its middle."""
    height, width = shape
    shares = np.array(zone.points, np.float32).reshape(-1, 1, 2)
    cells = shares * np.array([width, height], np.float32) - 0.5
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.rint(cells * 256).astype(np.int32)], 1, lineType=cv2.LINE_8, shift=8)
    if not mask.any():
        x, y = cells.reshape(-1, 2).mean(axis=0)
        mask[int(np.clip(y, 0, height - 1)), int(np.clip(x, 0, width - 1))] = 1
    x0, y0, across, down = cv2.boundingRect(mask)
    part = mask[y0 : y0 + down, x0 : x0 + across].astype(np.bool_)
    corners = shares.reshape(-1, 2)
    bounds = (*(corners.min(axis=0) - _EDGE).tolist(), *(corners.max(axis=0) + _EDGE).tolist())
    return _ZoneMask(zone, shares, bounds, (x0, y0), part, int(np.count_nonzero(part)))


def _is_in(track: Track, one: _ZoneMask) -> bool:
    anchor = one.zone.anchor
    if anchor in (Anchor.FOOT, Anchor.CENTRE):
        x, y = track.foot if anchor is Anchor.FOOT else track.centre
        left, top, right, bottom = one.bounds
        if not (left <= x <= right and top <= y <= bottom):
            return False
        return bool(cv2.pointPolygonTest(one.contour, (x, y), measureDist=False) >= 0)
    height, width = track.mask.shape
    x0, y0 = max(track.origin[0], one.origin[0]), max(track.origin[1], one.origin[1])
    x1 = min(track.origin[0] + width, one.origin[0] + one.mask.shape[1])
    y1 = min(track.origin[1] + height, one.origin[1] + one.mask.shape[0])
    if x0 >= x1 or y0 >= y1:
        return False
    first = track.mask[y0 - track.origin[1] : y1 - track.origin[1], x0 - track.origin[0] : x1 - track.origin[0]]
    second = one.mask[y0 - one.origin[1] : y1 - one.origin[1], x0 - one.origin[0] : x1 - one.origin[0]]
    common = int(np.count_nonzero(first & second))
    return common > 0 if anchor is Anchor.TOUCH else 2 * common >= int(np.count_nonzero(track.mask))
