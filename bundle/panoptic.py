"""Panoptic inference: query masks become segments with ids, instances of things apart, regions of stuff merged.

The procedure of MaskFormer (Cheng et al. 2021), which Mask2Former, FC-CLIP and GKC share: every pixel goes to the query
whose class score times mask probability is highest, and a query keeps its pixels if enough of its mask is left to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovs_edge.bundle.errors import UsageError


@dataclass(frozen=True)
class PanopticOptions:
    """When a query becomes a segment. The defaults are FC-CLIP's."""

    score: float = 0.0  # least probability of its class, exclusive
    overlap: float = 0.8  # least share of its mask that no better query takes


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map."""

    id: int  # its pixels' value in the map; ids are 1, 2, 3, …
    label: int  # index of its class
    thing: bool  # one instance of a countable thing; else all regions of a stuff class together
    score: float  # probability of its class, of the first query in it
    area: int  # pixels


def panoptic_segments(
    mask_probability: npt.NDArray[np.float32],
    class_probability: npt.NDArray[np.float32],
    things: npt.NDArray[np.bool_],
    options: PanopticOptions | None = None,
) -> tuple[npt.NDArray[np.int32], list[Segment]]:
    """Panoptic map (H, W), 0 where there is no segment, and its segments in the order of their ids.

    mask_probability (Q, H, W) and class_probability (Q, K + 1), "no object" last, both in 0..1; things (K,) tells which
    classes are countable. Raises `UsageError` for shapes that do not fit.
    """
    options = options or PanopticOptions()
    queries, height, width = mask_probability.shape
    if class_probability.shape != (queries, len(things) + 1):
        raise UsageError(
            f"class probabilities have shape {class_probability.shape}, expected {(queries, len(things) + 1)} for "
            f"{queries} masks and {len(things)} classes"
        )
    labels, scores = class_probability.argmax(1), class_probability.max(1)
    kept = np.flatnonzero((labels < len(things)) & (scores > options.score))
    ids = np.zeros((height, width), np.int32)
    if not len(kept) or not ids.size:
        return ids, []
    # One query after another: all weighted masks at once would be as large as the masks themselves.
    owner = np.zeros((height, width), np.int32)
    best = np.full((height, width), -1, np.float32)
    full = np.empty(len(kept), np.int64)  # pixels of the whole mask
    for place, query in enumerate(kept):
        mask = mask_probability[query]
        full[place] = np.count_nonzero(mask >= 0.5)
        weighted = mask * np.float32(scores[query])
        better = weighted > best
        owner[better], best[better] = place, weighted[better]
    won = np.bincount(owner.ravel(), minlength=len(kept))
    inside = np.take_along_axis(mask_probability, kept[owner][None], 0)[0] >= 0.5
    visible = np.bincount(owner[inside], minlength=len(kept))
    number = np.zeros(len(kept), np.int32)  # segment of each kept query
    segments: list[Segment] = []
    regions: dict[int, int] = {}  # stuff class -> its segment
    for place, query in enumerate(kept):
        if not visible[place] or won[place] / full[place] < options.overlap:
            continue
        label = int(labels[query])
        thing = bool(things[label])
        if not thing and label in regions:
            number[place] = regions[label]
            continue
        number[place] = len(segments) + 1
        if not thing:
            regions[label] = len(segments) + 1
        segments.append(Segment(len(segments) + 1, label, thing, float(scores[query]), 0))
    ids = np.where(inside, number[owner], 0).astype(np.int32)
    areas = np.bincount(ids.ravel(), minlength=len(segments) + 1)
    return ids, [Segment(part.id, part.label, part.thing, part.score, int(areas[part.id])) for part in segments]
