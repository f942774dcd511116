"""Which regions of a prediction are drawn, and in which colours: its classes, or its segments if it has them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..inference.prediction import NOTHING, Prediction
from ..opencv import cv2
from .palette import SHADES, colours, shades

_MOST_IN_A_BYTE = 255  # regions whose numbers fit a byte, where -1 becomes 255
_MOST_NAMED = 3  # connected parts of a class that get its name; an instance gets one


@dataclass(frozen=True)
class ColourMap:
    """Regions with a colour and a name each."""

    index: npt.NDArray[np.int32]  # (H, W), a region's number, -1 where there is none
    palette: npt.NDArray[np.uint8]  # (N, 3) BGR
    names: tuple[str, ...]  # N
    present: tuple[int, ...]  # numbers of the regions that are in `index`
    most_named: tuple[int, ...]  # N: how many of its connected parts get the name
    shares: npt.NDArray[np.float64]  # (K,), each class's share of the frame, hidden or not
    class_palette: npt.NDArray[np.uint8]  # (K, 3) BGR
    hidden: npt.NDArray[np.bool_]  # (K,), classes that are not painted

    @cached_property
    def numbers(self) -> npt.NDArray[np.integer]:
        """`index` in bytes where N allows, since all that is drawn reads it: four times less memory to go through."""
        return self.index.astype(np.uint8) if len(self.palette) <= _MOST_IN_A_BYTE else self.index


def colour_map(
    prediction: Prediction, own: Mapping[str, tuple[int, int, int]] | None = None, hidden: frozenset[str] = frozenset()
) -> ColourMap:
    """Things in shades of their class's colour, numbered where there are several; all else in its class's colour.

    `own` gives labels a colour (BGR) in place of the palette's; labels in `hidden` are not painted.
    """
    classes, palette = prediction.classes, class_colours(prediction.classes, own or {})
    veiled = np.array([label in hidden for label in classes], np.bool_)
    segments, ids = prediction.segments, prediction.segment_map
    size = max(1, prediction.labels.size)
    if ids is None:
        counts = pixel_counts(prediction.labels, len(classes))
        index = prediction.labels
        if veiled.any():
            shown = np.where(veiled, NOTHING, np.arange(len(classes))).astype(np.int32)
            index = np.concatenate([np.array([NOTHING], np.int32), shown])[index + 1]
        return ColourMap(
            index=index,
            palette=palette,
            names=classes,
            present=tuple(np.flatnonzero(np.where(veiled, 0, counts)).tolist()),
            most_named=(_MOST_NAMED,) * len(classes),
            shares=counts / size,
            class_palette=palette,
            hidden=veiled,
        )
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
    index = ids - 1
    if veiled.any():
        gone = np.array([False, *(veiled[segment.index] for segment in segments)])
        index = np.where(gone[ids], np.int32(-1), index)
    return ColourMap(
        index=index,
        palette=np.array(tints, np.uint8).reshape(-1, 3),
        names=tuple(names),
        present=tuple(segment.id - 1 for segment in segments if segment.area and not veiled[segment.index]),
        most_named=tuple(1 if segment.thing else _MOST_NAMED for segment in segments),
        shares=shares,
        class_palette=palette,
        hidden=veiled,
    )


def class_colours(classes: tuple[str, ...], own: Mapping[str, tuple[int, int, int]]) -> npt.NDArray[np.uint8]:
    """BGR (K, 3): the colour that a user chose for a label, else the palette's."""
    palette = colours(classes)
    chosen = [index for index, label in enumerate(classes) if label in own]
    if chosen:
        palette = palette.copy()  # the palette is cached and shared
        palette[chosen] = [own[classes[index]] for index in chosen]
    return palette


def pixel_counts(index: npt.NDArray[np.integer], regions: int) -> npt.NDArray[np.float64]:
    """Pixels (N,) of each of N `regions` in a map (H, W) of their numbers; -1 is none of them."""
    if regions <= _MOST_IN_A_BYTE:
        # Several times quicker than np.bincount, which makes a 64-bit number of every pixel first.
        counted = cv2.calcHist([index.astype(np.uint8, copy=False)], [0], None, [256], [0, 256]).ravel()[:regions]
    else:
        counted = np.bincount(index.ravel() + 1, minlength=regions + 1)[1:]
    return np.asarray(counted, np.float64)


def _touching(ids: npt.NDArray[np.int32]) -> dict[int, set[int]]:
    """Segment -> the segments that it has an edge of pixels in common with."""
    near: defaultdict[int, set[int]] = defaultdict(set)
    for first, second in ((ids[:, :-1], ids[:, 1:]), (ids[:-1], ids[1:])):
        edge = (first != second) & (first > 0) & (second > 0)
        for one, other in np.unique(np.stack([first[edge], second[edge]], 1), axis=0).tolist():
            near[one].add(other)
            near[other].add(one)
    return near
