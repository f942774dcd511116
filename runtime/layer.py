"""What of a prediction is painted, and in which colours: its classes, or its segments where it has them."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovs_edge.runtime.palette import SHADES, colours, shades
from ovs_edge.runtime.prediction import Prediction

_MOST_NAMED = 3  # connected parts of a class that get its name; an instance gets one


@dataclass(frozen=True)
class Layer:
    """Regions with a colour and a name each."""

    index: npt.NDArray[np.int32]  # (H, W), a region's number, -1 where there is none
    palette: npt.NDArray[np.uint8]  # (N, 3) BGR
    names: tuple[str, ...]  # N
    most_named: tuple[int, ...]  # N: how many of its connected parts get the name
    shares: npt.NDArray[np.float64]  # (K,), each class's share of the frame


def layer(prediction: Prediction) -> Layer:
    """Things in shades of their class's colour, numbered where there are several; all else in its class's colour."""
    classes, palette = prediction.classes, colours(prediction.classes)
    segments, ids = prediction.segments, prediction.segment_map
    size = max(1, prediction.labels.size)
    if ids is None:
        counts = np.bincount(prediction.labels.ravel() + 1, minlength=len(classes) + 1)[1:]
        return Layer(prediction.labels, palette, classes, (_MOST_NAMED,) * len(classes), counts / size)
    shares = np.zeros(len(classes))
    for segment in segments:
        shares[segment.index] += segment.area / size
    several = Counter(segment.index for segment in segments)
    crowded = any(count > SHADES for count in several.values())
    near = _touching(ids) if crowded else {}  # while shades last, no two instances share one
    shade = np.zeros(len(segments) + 1, np.int64)
    used: defaultdict[int, Counter[int]] = defaultdict(Counter)
    names = []
    for segment in segments:
        taken = {int(shade[other]) for other in near.get(segment.id, ()) if other < segment.id}
        free = [number for number in range(SHADES) if number not in taken] or list(range(SHADES))
        count = used[segment.index]
        shade[segment.id] = min(free, key=lambda number: (count[number], number))
        count[int(shade[segment.id])] += 1
        names.append(f"{segment.label} #{count.total()}" if several[segment.index] > 1 else segment.label)
    tints = [shades(palette[segment.index])[shade[segment.id]] for segment in segments]
    return Layer(
        index=ids - 1,
        palette=np.array(tints, np.uint8).reshape(-1, 3),
        names=tuple(names),
        most_named=tuple(1 if segment.thing else _MOST_NAMED for segment in segments),
        shares=shares,
    )


def _touching(ids: npt.NDArray[np.int32]) -> dict[int, set[int]]:
    """Segment -> the segments that it has an edge of pixels in common with."""
    near: defaultdict[int, set[int]] = defaultdict(set)
    for first, second in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])):
        edge = (first != second) & (first > 0) & (second > 0)
        for one, other in np.unique(np.stack([first[edge], second[edge]], 1), axis=0).tolist():
            near[one].add(other)
            near[other].add(one)
    return near
