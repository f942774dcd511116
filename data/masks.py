"""What the values of masks mean: classes by a table, or segments in the colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .labelled import VOID, LabelledFile, Truth
from .mask_files import index_values, look_up, region_ids


@dataclass(frozen=True)
class IndexMask:
    """Reads masks with one value a pixel by a table: stored value -> class index or VOID."""

    table: tuple[tuple[int, int], ...]
    about: str  # what the values are, for the error
    background: tuple[int, ...] = ()  # stored values of pixels that show none of the classes

    def __call__(self, file: LabelledFile) -> Truth:
        """Raises `DatasetError` for a value that the table does not name."""
        assert file.mask is not None
        mask = index_values(file.mask)
        labels = look_up(mask, dict(self.table), f"{file.mask}", self.about)
        return Truth(labels, background=np.isin(mask, self.background) if self.background else None)


@dataclass(frozen=True)
class SegmentMask:
    """Reads COCO's panoptic masks: segment ids in the colours, and their classes listed beside the masks."""

    def __call__(self, file: LabelledFile) -> Truth:
        """Raises `DatasetError` for a mask without colours."""
        assert file.mask is not None
        ids = region_ids(file.mask)
        segments = dict(file.segments)
        labels = np.full(ids.shape, VOID, np.int32)
        for key, segment in segments.items():
            if not segment.crowd:
                labels[ids == key] = segment.label
        return Truth(labels, ids, segments)
