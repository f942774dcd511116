"""The regions of a picture as vertical runs of pixels: from them come boxes, sizes and COCO's run lengths of all at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...runtime.inference.interop import encode_many_counts
from ...runtime.opencv import cv2

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Runs:
    """Runs of equal pixels down the columns; none goes on into the next column. The N runs are in COCO's order."""

    size: tuple[int, int]  # height, width of the picture
    starts: Integers  # (N,) places of the first pixels, counted down the columns
    ends: Integers  # (N,) behind the last pixels
    values: Integers  # (N,) of the pixels, 0 or more

    @classmethod
    def of(cls, values: npt.NDArray[np.int32]) -> Runs:
        """The runs of a map (H, W); pixels below 0 belong to none."""
        height, width = values.shape
        down = cv2.transpose(values).ravel()
        changes = np.ones(down.size + 1, np.bool_)
        np.not_equal(down[1:], down[:-1], out=changes[1:-1])
        changes[::height] = True
        marks = np.flatnonzero(changes)
        found = down[marks[:-1]].astype(np.int64)
        kept = found >= 0
        return cls((height, width), marks[:-1][kept], marks[1:][kept], found[kept])

    @property
    def columns(self) -> Integers:
        """(N,) the column of each run."""
        return self.starts // self.size[0]

    @property
    def rows(self) -> Integers:
        """(N,) the row in which each run starts."""
        return self.starts % self.size[0]

    def sums(self, of_pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """(N,) the sum over each run of what a map (H, W) has for each pixel."""
        down = np.zeros(of_pixels.size + 1)
        down[:-1] = cv2.transpose(of_pixels).ravel()
        marks = np.empty((len(self.starts), 2), np.int64)
        marks[:, 0], marks[:, 1] = self.starts, self.ends
        sums: npt.NDArray[np.float64] = np.add.reduceat(down, marks.ravel())[::2]  # the others are between the runs
        return sums

    def grouped(self) -> RunGroups:
        """The runs by their values, which are 0, 1, 2, … without a gap."""
        order = self.values.argsort(kind="stable")
        lengths = np.bincount(self.values)
        runs = Runs(self.size, self.starts[order], self.ends[order], self.values[order])
        return RunGroups(runs, lengths.cumsum() - lengths)


@dataclass(frozen=True)
class RunGroups:
    """The runs of each value one after another."""

    runs: Runs
    firsts: Integers  # (V,) of each group

    def pixels(self) -> list[int]:
        """How many each group has."""
        found: list[int] = np.add.reduceat(self.runs.ends - self.runs.starts, self.firsts).tolist()
        return found

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """x0, y0, x1, y1 of each group, in pixels; x1 and y1 lie just outside."""
        runs, columns, rows = self.runs, self.runs.columns, self.runs.rows
        left, top = np.minimum.reduceat(columns, self.firsts), np.minimum.reduceat(rows, self.firsts)
        right = np.maximum.reduceat(columns, self.firsts) + 1
        bottom = np.maximum.reduceat(rows + (runs.ends - runs.starts), self.firsts)
        return list(zip(left.tolist(), top.tolist(), right.tolist(), bottom.tolist(), strict=True))

    def coco_counts(self) -> list[str]:
        """COCO's compressed run lengths of each group."""
        starts, ends, pixels = self.runs.starts, self.runs.ends, self.runs.size[0] * self.runs.size[1]
        first = np.zeros(len(starts) + 1, np.bool_)  # whether a run is its group's first; the end counts as one
        first[self.firsts] = first[-1] = True
        # COCO's runs go on in the next column: one reaches the bottom, the next begins at the top.
        apart = first.copy()
        apart[1:-1] |= starts[1:] != ends[:-1]
        if not apart.all():
            starts, ends, first = starts[apart[:-1]], ends[apart[1:]], first[apart]
        # For each run the pixels outside before it and its own; for the last of a group the rest of the picture.
        counts = np.zeros((len(starts), 3), np.int64)
        begins, is_last = first[:-1], first[1:]
        counts[0, 0] = starts[0]
        counts[1:, 0] = starts[1:] - ends[:-1]
        counts[begins, 0] = starts[begins]
        counts[:, 1] = ends - starts
        counts[is_last, 2] = rest = pixels - ends[is_last]
        there = counts > 0
        there[begins, 0] = True  # also where the first pixel is inside
        places = first.nonzero()[0]
        return encode_many_counts(counts[there], 2 * (places[1:] - places[:-1]) + (rest > 0))
