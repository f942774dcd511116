"""What a network knows of the parts of one picture: vectors of places or of queries, and the vector of a region.

    places    a vector for every place of a grid: those inside a region are averaged (models without queries)
    queries   a mask and a vector for every query: averaged by the squared IoU of mask and region

Regions are masks (H, W) of the frame.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.letterbox import Letterbox
from ..opencv import cv2
from ..vocabulary.centring import unit
from .fitting import FittedVector, PicturePlaces, fit_vector
from .place_statistics import PlaceStatistics
from .region import Mask

Floats = npt.NDArray[np.float32]

_COVERED = 0.3  # share of a place that a region must cover for the place to lie in it
_ALIKE = (
    0.75  # of the way from the picture's mean to the clicked place: cosine from which a place belongs to its region
)


class PictureFeatures(Protocol):
    """The features of one picture."""

    def vector(self, region: Mask) -> Floats:
        """Unit vector (C,) of a region."""
        ...

    def proposal(self, x: int, y: int) -> Mask:
        """The region under a pixel."""
        ...

    def winners(self, region: Mask, names: Floats) -> Floats:
        """Share (N,) of a region in which each of `names` (N, C), unit, is the nearest."""
        ...

    def fitted(self, region: Mask, rivals: Floats) -> FittedVector | None:
        """The vector fitted to win a region against `rivals` (R, C), unit; None where none can be fitted."""
        ...


class PlaceFeatures:
    """Vectors of places; each place is a rectangle of the network's input, and rectangles may overlap."""

    def __init__(
        self, vectors: Floats, boxes: npt.NDArray[np.int32], letterbox: Letterbox, statistics: PlaceStatistics | None
    ) -> None:
        """`vectors` (N, C); `boxes` (N, 4) are top, left, bottom, right in the input's pixels."""
        self._vectors, self._boxes, self._letterbox, self._statistics = vectors, boxes, letterbox, statistics
        self._shares: tuple[Mask, Floats] | None = None  # of the latest region, which is read in several ways

    def vector(self, region: Mask) -> Floats:
        """See `PictureFeatures`: the mean over the region; with statistics, what sets it apart from other places."""
        weight = self._coverage(region)
        mean: Floats = (weight @ self._vectors / weight.sum()).astype(np.float32)
        if self._statistics is not None:
            mean = np.asarray((mean - self._statistics.mean) @ self._statistics.whitening, np.float32)
        vector: Floats = unit(mean[None])[0]
        return vector

    def proposal(self, x: int, y: int) -> Mask:
        """See `PictureFeatures`: connected places that resemble the one under the pixel, means taken off."""
        height, width = self._letterbox.source
        point = np.zeros((height, width), np.bool_)
        point[y, x] = True
        centred = unit(self._vectors - self._visible_mean())
        seed = unit((self._coverage(point) @ centred)[None])[0]
        likeness = self._spread(centred @ seed)
        alike = likeness >= min(_ALIKE, float(likeness[y, x]))
        return _part_at(alike, x, y)

    def winners(self, region: Mask, names: Floats) -> Floats:
        """See `PictureFeatures`."""
        weight = self._coverage(region)
        inside = weight > 0
        # Not `@`: for so little work BLAS spends longer waking threads that the network keeps busy.
        best = np.einsum("nc,kc->nk", self._vectors[inside], names).argmax(axis=1)
        counts = np.bincount(best, weights=weight[inside], minlength=len(names))
        return np.asarray(counts / counts.sum(), np.float32)

    def fitted(self, region: Mask, rivals: Floats) -> FittedVector | None:
        """See `PictureFeatures`: with statistics, and where anything competes."""
        if self._statistics is None or not len(rivals):
            return None
        seen, share = self._visible(), self._share(region)
        places = PicturePlaces(self._vectors[seen], share[seen], _inside(share)[seen])
        return fit_vector(self.vector(region), places, self._statistics.everyday, rivals)

    def _coverage(self, region: Mask) -> Floats:
        """Weight (N,) of each place that lies in the region: the share of it that the region covers."""
        return _inside(self._share(region))

    def _share(self, region: Mask) -> Floats:
        """Share (N,) of each place that the region covers."""
        latest = self._shares  # read once: another thread may read another region
        if latest is None or latest[0] is not region:
            self._shares = latest = region, self._measured_share(region)
        return latest[1]

    def _measured_share(self, region: Mask) -> Floats:
        rows, columns = self._letterbox.target
        height, width = self._letterbox.scaled
        small = cv2.resize(region.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        whole = np.zeros((rows, columns), np.float32)
        whole[:height, :width] = small
        total = cv2.integral(whole, sdepth=cv2.CV_64F)
        top, left, bottom, right = self._boxes.T
        covered = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        share = np.maximum(covered, 0) / ((bottom - top) * (right - left))
        share[share < 1e-9] = 0  # rounding of the sums
        return np.asarray(share, np.float32)

    def _visible(self) -> npt.NDArray[np.bool_]:
        """Which places (N,) are not padding."""
        height, width = self._letterbox.scaled
        seen: npt.NDArray[np.bool_] = (self._boxes[:, 0] < height) & (self._boxes[:, 1] < width)
        return seen

    def _visible_mean(self) -> Floats:
        """Mean (C,) over the places that are not padding."""
        return np.asarray(self._vectors[self._visible()].mean(axis=0), np.float32)

    def _painted(self, values: Floats) -> npt.NDArray[np.float64]:
        """Sum (h, w) over the network's input of the values (N,) of the places that cover a pixel."""
        rows, columns = self._letterbox.target
        steps = np.zeros((rows + 1, columns + 1), np.float64)  # at the corners of the places; their sums are the map
        top, left, bottom, right = self._boxes.T
        for row, column, sign in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
            np.add.at(steps, (row, column), sign * values)
        summed: npt.NDArray[np.float64] = steps.cumsum(axis=0).cumsum(axis=1)[:rows, :columns]
        return summed.round(6)

    def _spread(self, values: Floats) -> Floats:
        """Values (N,) of places as a map (H, W) of the frame, averaged where places overlap."""
        total, count = self._painted(values), self._painted(np.ones_like(values))
        height, width = self._letterbox.scaled
        step = int(self._boxes[0, 2] - self._boxes[0, 0]) | 1  # odd, so that nothing is shifted
        mean = (total / np.maximum(count, 1))[:height, :width].astype(np.float32)
        smooth = cv2.blur(mean, (step, step))  # places are squares: bilinear between their centres, nearly
        size = (self._letterbox.source[1], self._letterbox.source[0])
        return np.asarray(cv2.resize(smooth, size, interpolation=cv2.INTER_LINEAR), np.float32)


class QueryFeatures:
    """Vectors and masks of queries."""

    def __init__(self, vectors: Floats, masks: Floats, letterbox: Letterbox) -> None:
        """`vectors` (Q, C); `masks` (Q, h, w) are probabilities over the network's input."""
        height, width = letterbox.scaled_in((masks.shape[1], masks.shape[2]))
        self._vectors, self._masks, self._letterbox = vectors, masks[:, :height, :width], letterbox

    def vector(self, region: Mask) -> Floats:
        """See `PictureFeatures`."""
        weight = self._overlap(region) ** 2
        if not weight.any():
            weight = np.ones_like(weight)
        vector: Floats = unit((weight @ self._vectors)[None])[0]
        return vector

    def proposal(self, x: int, y: int) -> Mask:
        """See `PictureFeatures`: the mask of the query that is surest of the pixel, and of its mask as a whole."""
        height, width = self._letterbox.source
        rows, columns = self._masks.shape[1:]
        row, column = min(rows - 1, y * rows // height), min(columns - 1, x * columns // width)
        inside = self._masks > 0.5
        sure = (self._masks * inside).sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
        best = int((self._masks[:, row, column] * sure).argmax())
        mask = cv2.resize(self._masks[best], (width, height), interpolation=cv2.INTER_LINEAR)
        return _part_at(mask >= min(0.5, float(mask[y, x])), x, y)

    def winners(self, region: Mask, names: Floats) -> Floats:
        """See `PictureFeatures`."""
        weight = self._overlap(region) ** 2
        counts = np.bincount((self._vectors @ names.T).argmax(axis=1), weights=weight, minlength=len(names))
        return np.asarray(counts / max(float(counts.sum()), 1e-9), np.float32)

    def fitted(self, region: Mask, rivals: Floats) -> FittedVector | None:
        """See `PictureFeatures`: a query's vector is not compared place by place."""
        return None

    def _overlap(self, region: Mask) -> Floats:
        """Soft IoU (Q,) of each query's mask with the region."""
        rows, columns = self._masks.shape[1:]
        shown = cv2.resize(region.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
        both = np.minimum(self._masks, shown).sum(axis=(1, 2))
        either = np.maximum(self._masks, shown).sum(axis=(1, 2))
        return np.asarray(both / np.maximum(either, 1e-6), np.float32)


def _inside(share: Floats) -> Floats:
    """Weight (N,) of places of which a region covers `share` (N,); of small regions whatever they touch."""
    return np.where(share >= min(_COVERED, float(share.max())), share, np.float32(0))


def _part_at(mask: Mask, x: int, y: int) -> Mask:
    """The connected pixels of `mask` that hold pixel (x, y), holes filled; the pixel itself where it is not inside."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    part = (parts == parts[y, x]) & mask
    if not part[y, x]:
        part = np.zeros_like(mask)
        part[y, x] = True
        return part
    outer, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, outer, -1, 1, cv2.FILLED)
    return filled.astype(np.bool_)
