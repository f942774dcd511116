"""The result for one frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ..regions.track import Track
from ..vocabulary.reading import Reading

NOTHING = -1  # label of a pixel that belongs to none of the classes


@dataclass(frozen=True)
class Region:
    """All pixels of one class in a frame."""

    label: str
    share: float  # of the frame's pixels, 0..1
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 lie just outside
    confidence: float  # mean over the class's pixels, 0..1
    tracks: tuple[Track, ...] = ()  # its connected regions with their ids, where regions are tracked


@dataclass(frozen=True)
class Segment:
    """One instance of a thing, or all of a stuff class."""

    id: int  # its pixels' value in the segment map; ids are 1, 2, 3, …
    index: int  # of its class
    label: str  # of its class
    thing: bool  # else stuff
    area: int  # pixels of the frame
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 lie just outside
    score: float  # probability of its class, 0..1


@dataclass(frozen=True)
class Prediction:
    """A label for every pixel of a frame, and the segments of panoptic segmentation where that was asked for."""

    labels: npt.NDArray[np.int32]  # (H, W), index into `classes`, or NOTHING
    confidence: npt.NDArray[np.float32]  # (H, W), of the winning class, which may be background
    classes: tuple[str, ...]  # labels of the classes
    timings: dict[str, float] = field(default_factory=dict)  # step -> milliseconds
    segments: tuple[Segment, ...] = ()  # in the order of their ids; they do not overlap
    segment_map: npt.NDArray[np.int32] | None = None  # (H, W), a segment's id or 0; None for semantic segmentation
    readings: tuple[Reading, ...] = ()  # of the classes none of whose names is a trained one
    version: int = 0  # of the classes: two predictions with the same version have the same classes
    tracks: tuple[Track, ...] = ()  # regions with an id, where they are followed from frame to frame (RegionTracker)

    def mask(self, label: str) -> npt.NDArray[np.bool_]:
        """Pixels (H, W) of the class `label`, all False if it was not found. `UsageError` for another label."""
        if label not in self.classes:
            asked = ", ".join(map(repr, self.classes[:20]))
            raise UsageError(f"no class {label!r} was asked for, expected one of {asked}")
        found: npt.NDArray[np.bool_] = self.labels == self.classes.index(label)
        return found

    def regions(self) -> tuple[Region, ...]:
        """The classes that were found, in the order they were asked for."""
        flat = self.labels.ravel() + 1
        counts = np.bincount(flat, minlength=len(self.classes) + 1)[1:]
        sums = np.bincount(flat, weights=self.confidence.ravel(), minlength=len(self.classes) + 1)[1:]
        regions = []
        for index in np.flatnonzero(counts):
            mask = self.labels == index
            ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            regions.append(
                Region(
                    label=self.classes[index],
                    share=float(counts[index] / flat.size),
                    box=(int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1),
                    confidence=float(sums[index] / counts[index]),
                    tracks=tuple(track for track in self.tracks if track.label == self.classes[index]),
                )
            )
        return tuple(regions)
