"""Mean IoU on photos with index masks: agreement says how much changes, this says whether it was for the worse.

folder/
  classes.json    ["sky", "tree|bush", …]
  images/val/     a.jpg …
  masks/val/      a.png …   8-bit class index, 255 = not labelled
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle.errors import DatasetError, require
from ..bundle.image_files import is_image_name
from ..bundle.metrics import confusion, intersection_over_union
from ..runtime.capture.photos import read_photo
from ..runtime.segmenter import Segmenter


class LabelledPhotos:
    """The validation photos of a folder. Raises `DatasetError` where it is not laid out as above."""

    def __init__(self, folder: Path) -> None:
        require("PIL", "calibrate")
        try:
            entries = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
            images = sorted((folder / "images" / "val").iterdir())
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{folder} is no folder of labelled photos ({error}); expected classes.json, images/val and masks/val"
            ) from error
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) for entry in entries):
            raise DatasetError(
                f'{folder / "classes.json"} is not a list of names; expected such as ["sky", "tree|bush"]'
            )
        pairs = [(image, folder / "masks" / "val" / f"{image.stem}.png") for image in images]
        self.name = folder.name
        self.classes: list[str] = entries
        self.pairs = [pair for pair in pairs if is_image_name(pair[0]) and pair[1].is_file()]
        if not self.pairs:
            raise DatasetError(f"{folder} holds no photo with its mask; expected images/val/a.jpg with masks/val/a.png")

    def mean_iou(self, segmenter: Segmenter, tick: Callable[[], None]) -> float:
        """All classes compete, each photo at its own size; the segmenter has no background and no threshold."""
        segmenter.set_classes(self.classes)
        count = len(segmenter.active.labels)
        if count != len(self.classes):
            raise DatasetError(f"{self.name}: two of the {len(self.classes)} classes share a name; rename one")
        counts = np.zeros((count, count + 1), np.int64)
        for image, mask in self.pairs:
            photo = read_photo(image)
            truth = _read_mask(mask)
            if truth.shape != photo.shape[:2]:
                raise DatasetError(f"{mask} is {truth.shape}, its photo {photo.shape[:2]}; expected the same size")
            counts += confusion(truth, segmenter.predict(photo).labels, count)
            tick()
        return intersection_over_union(counts).mean


def _read_mask(path: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            mask: npt.NDArray[Any] = np.array(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise DatasetError(f"cannot decode the mask {path} ({error}); copy it again") from error
    if mask.ndim != 2:
        raise DatasetError(f"{path} has {mask.ndim} axes, expected an index mask with one value a pixel")
    return mask.astype(np.uint8)
