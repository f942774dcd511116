"""Panoptic inference: query masks become segments with ids, instances of things apart, regions of stuff merged.

The procedure of MaskFormer (Cheng et al. 2021), which Mask2Former, FC-CLIP and GKC share: every pixel goes to the query
whose class score times mask probability is highest, and a query keeps its pixels if enough of its mask is left to it.

As in those, masks are brought to the picture's size as logits, before anything is decided or counted. Whole masks of
that size would cost 8 MB for each query and picture of 1920x1080. But a resized value lies between those it is made of:
in most places they tell already that all queries but one or two have lost, and only those few are resized there.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from .errors import UsageError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """How an axis of the map is made of that of the masks: place i is the sum of weight[i, t] * mask[start[i] + t]."""

    inputs: int  # length of the masks' axis
    start: Ints  # (N,), never falling
    weight: Floats  # (N, T), each row none below 0 and 1 in all

    @classmethod
    def bilinear(cls, inputs: int, outputs: int) -> Axis:
        """Bilinear resizing, pixels' centres aligned and no smoothing, as torch and OpenCV do."""
        place = np.clip((np.arange(outputs) + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
        start = np.minimum(np.floor(place), max(0, inputs - 2)).astype(np.int64)
        share = (place - start).astype(np.float32)
        return cls(inputs, start, np.stack([1 - share, share], 1))

    def then(self, later: Axis) -> Axis:
        """This and then `later`, which may leave out what is at the end of this one's outcome."""
        middle = np.minimum(later.start[:, None] + np.arange(later.weight.shape[1]), len(self.start) - 1)
        start = self.start[middle[:, 0]]
        place = (self.start[middle] - start[:, None])[..., None] + np.arange(self.weight.shape[1])
        weight = np.zeros((len(start), int(place.max(initial=0)) + 1), np.float32)
        every = np.broadcast_to(np.arange(len(start))[:, None, None], place.shape)
        np.add.at(weight, (every, place), later.weight[..., None] * self.weight[middle])
        return Axis(self.inputs, start, weight)

    def of(self, masks: Floats, part: slice, offset: int) -> Floats:
        """A part of the map's axis from `masks` (n, a, b), whose axis 1 begins at place `offset` of the masks' axis."""
        last = masks.shape[1] - 1
        taps = [
            masks[:, np.minimum(self.start[part] + (tap - offset), last)] * self.weight[part, tap, None]
            for tap in range(self.weight.shape[1])
        ]
        return functools.reduce(np.add, taps)


_TILE = 8  # side of the places, in the masks' own pixels
_SLACK = 1e-4  # by which a query may seem beaten for rounding alone, relative


@dataclass(frozen=True)
class PanopticOptions:
    """When a query becomes a segment. The defaults are FC-CLIP's."""

    score: float = 0.0  # least probability of its class, exclusive
    overlap: float = 0.8  # least share of its mask that no better query takes


@dataclass(frozen=True)
class PanopticSegment:
    """One segment of a panoptic map."""

    id: int  # its pixels' value in the map; ids are 1, 2, 3, …
    label: int  # index of its class
    thing: bool  # one instance of a countable thing; else all regions of a stuff class together
    score: float  # probability of its class, of the first query in it
    area: int  # pixels


def panoptic_segments(
    mask_logits: Floats,
    class_probability: Floats,
    things: npt.NDArray[np.bool_],
    options: PanopticOptions | None = None,
    resize: tuple[Axis, Axis] | None = None,
) -> tuple[npt.NDArray[np.int32], list[PanopticSegment]]:
    """Panoptic map (H, W), 0 where there is no segment, and its segments in the order of their ids.

    mask_logits (Q, h, w); class_probability (Q, K + 1) in 0..1, "no object" last; things (K,) tells which classes are
    countable. `resize` gives how the map's rows and columns are made of the masks'; by default they are equal. Raises
    `UsageError` for shapes that do not fit.
    """
    options = options or PanopticOptions()
    queries, height, width = mask_logits.shape
    rows, columns = resize or (Axis.bilinear(height, height), Axis.bilinear(width, width))
    if class_probability.shape != (queries, len(things) + 1):
        raise UsageError(
            f"class probabilities have shape {class_probability.shape}, expected {(queries, len(things) + 1)} for "
            f"{queries} masks and {len(things)} classes"
        )
    if (rows.inputs, columns.inputs) != (height, width):
        raise UsageError(f"masks are {width}x{height}, but are to be resized from {columns.inputs}x{rows.inputs}")
    labels, scores = class_probability.argmax(1), class_probability.max(1)
    kept = np.flatnonzero((labels < len(things)) & (scores > options.score))
    owner = np.zeros((len(rows.start), len(columns.start)), np.int32)
    if not len(kept) or not owner.size:
        return owner, []
    claims = _claim(mask_logits[kept], scores[kept].astype(np.float32), rows, columns, owner)
    number = np.zeros(len(kept) + 1, np.int32)  # segment of each kept query, after a 0 for pixels without an owner
    segments: list[PanopticSegment] = []
    regions: dict[int, int] = {}  # stuff class -> its segment
    for place, (query, full, won, visible) in enumerate(zip(kept, *claims, strict=True), 1):
        if not visible or won / full < options.overlap:
            continue
        label = int(labels[query])
        thing = bool(things[label])
        if not thing and label in regions:
            number[place] = regions[label]
            first = segments[regions[label] - 1]
            segments[first.id - 1] = replace(first, area=first.area + int(visible))
            continue
        number[place] = len(segments) + 1
        if not thing:
            regions[label] = len(segments) + 1
        segments.append(PanopticSegment(len(segments) + 1, label, thing, float(scores[query]), int(visible)))
    return number[owner], segments


def _claim(
    masks: Floats, scores: Floats, rows: Axis, columns: Axis, owner: npt.NDArray[np.int32]
) -> tuple[Ints, Ints, Ints]:
    """Pixels of each query's whole mask, those it wins, and those of its mask that it wins, (Q,) each.

    Fills `owner` (H, W) with the number, from 1, of the query that wins a pixel of its own mask; the rest stays.
    """
    full, won, visible = (np.zeros(len(masks), np.int64) for _ in range(3))
    leaders = (scores[:, None, None] * _sigmoid(masks)).argmax(0)
    for y, from_y in _tiles(rows):
        strip = masks[:, from_y]
        for x, from_x in _tiles(columns):
            patch, target = strip[:, :, from_x], owner[y, x]
            low, high = patch.min((1, 2)), patch.max((1, 2))
            full[low >= 0] += target.size
            # The best is nowhere below a query's least value, nor below the least mean of several, which is what tells
            # where those that lead at the two sides of an edge beat the rest.
            lead = np.unique(leaders[from_y, from_x])
            least = scores[lead].min() * _sigmoid(patch[lead].mean(0).min())
            least = max(least, (scores * _sigmoid(low)).max())
            rivals = scores * _sigmoid(high) >= least * np.float32(1 - _SLACK)
            mixed = (low < 0) & (high >= 0)
            if not mixed.any() and np.count_nonzero(rivals) == 1:
                (only,) = np.flatnonzero(rivals)
                won[only] += target.size
                if low[only] >= 0:
                    visible[only] += target.size
                    target[:] = only + 1
                continue
            shown = np.flatnonzero(mixed | rivals)
            part = columns.of(patch[shown].transpose(0, 2, 1), x, from_x.start).transpose(0, 2, 1)
            values = rows.of(part, y, from_y.start)
            winner, best = np.zeros(target.shape, np.int32), np.zeros(target.shape, np.float32)
            for query, logits in zip(shown, values, strict=True):
                if mixed[query]:
                    full[query] += np.count_nonzero(logits >= 0)
                if rivals[query]:
                    weighted = scores[query] * _sigmoid(logits)
                    winner[weighted > best] = query
                    np.maximum(best, weighted, out=best)
            for query, logits in zip(shown, values, strict=True):
                if rivals[query]:
                    claimed = winner == query
                    won[query] += np.count_nonzero(claimed)
                    claimed &= logits >= 0
                    visible[query] += np.count_nonzero(claimed)
                    target[claimed] = query + 1
    return full, won, visible


def _tiles(axis: Axis) -> Iterator[tuple[slice, slice]]:
    """Parts of one axis of the map, each with the part of the masks' axis that it is made of."""
    first, stop = axis.start, np.minimum(axis.start + axis.weight.shape[1], axis.inputs)
    bounds = np.linspace(0, len(first), math.ceil((stop[-1] - first[0]) / _TILE) + 1).astype(int)
    for here, there in itertools.pairwise(bounds):
        if there > here:
            yield slice(here, there), slice(first[here], stop[there - 1])


def _sigmoid(logits: Floats) -> Floats:
    odds = np.exp(np.maximum(logits, np.float32(-80)) * np.float32(-1))  # of the contrary; of less it would overflow
    result: Floats = np.float32(1) / (np.float32(1) + odds)
    return result
