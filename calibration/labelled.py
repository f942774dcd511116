"""Mean IoU on labelled photos: agreement tells how many labels change, mean IoU whether the result gets worse.

Photos and masks are read by `data.photo_sets`, as training and benchmarks read them: a photo as it is stored beside a
mask as it is stored, masks of 8 or 16 bits, class indices outside the list refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..bundle.errors import DatasetError, require
from ..bundle.metrics import confusion, intersection_over_union
from ..runtime.segmenter import Segmenter


class LabelledPhotos:
    """The validation photos of a data set. Raises `DatasetError` where there are none, `MissingExtraError`."""

    def __init__(self, folder: str | Path) -> None:
        require("PIL", "masks")
        from ..data.photo_sets import open_photos

        self._photos = open_photos(str(folder))
        self.name = Path(folder).name
        self.classes: list[str] = _entries(Path(folder)) or [entry.names[0] for entry in self._photos.classes]

    def __len__(self) -> int:
        return len(self._photos)

    def mean_iou(self, segmenter: Segmenter, tick: Callable[[], None]) -> float:
        """Mean IoU with all classes competing, each photo at its own size; `tick` is called after each photo.

        The segmenter must have no background and no confidence threshold: every pixel counts.
        Raises `DatasetError`, `SourceError`.
        """
        segmenter.set_classes(self.classes)
        count = len(segmenter.active.labels)
        if count != len(self.classes):
            raise DatasetError(f"{self.name}: two of the {len(self.classes)} classes share a name; rename one")
        counts = np.zeros((count, count + 1), np.int64)
        for index in range(len(self._photos)):
            photo = self._photos.load(index)
            counts += confusion(photo.truth.labels, segmenter.predict(photo.image).labels, count)
            tick()
        return intersection_over_union(counts).mean


def _entries(folder: Path) -> list[str]:
    """Entries of the folder's classes.json ("tree|bush" has two names), as they are; none for another layout."""
    path = folder / "classes.json"
    if not path.is_file():
        return []
    from ..data.text_files import read_json

    entries = read_json(path)
    return [str(entry) for entry in entries]
