"""COCO panoptic, see `readers/coco_panoptic.py` and https://cocodataset.org/#format-data, "Panoptic Segmentation"."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...labelled import VOID
from ...readers.reader import Split
from .layout import LayoutWriter, LoadedPhoto, write_json


class CocoPanopticWriter(LayoutWriter):
    """Objects as the labels tell them apart; a class of `stuff`, or of labels that tell no objects, is one segment."""

    name = "coco-panoptic"
    keeps_background = False

    def __init__(
        self, work: Path, classes: tuple[str, ...], *, link: bool = False, stuff: Collection[str] = ()
    ) -> None:
        super().__init__(work, classes, link=link)
        self._stuff = {index for index, name in enumerate(classes) if name in stuff}
        self._things: set[int] = set()
        self._images: dict[Split, list[dict[str, Any]]] = {"train": [], "val": []}
        self._annotations: dict[Split, list[dict[str, Any]]] = {"train": [], "val": []}

    def add(self, name: str, loaded: LoadedPhoto, split: Split) -> None:
        """See `LayoutWriter`."""
        photo = self._write_photo(self.work / f"{split}2017", name, loaded)
        masks = self.work / "annotations" / f"panoptic_{split}2017"
        masks.mkdir(parents=True, exist_ok=True)
        labels = loaded.painted.labels
        # A number for each pair of class and object; labels fit in 8 bits, and VOID, -1, is the pair below all others.
        objects = np.zeros_like(labels, np.int64)
        if loaded.painted.objects is not None:
            objects = np.where(np.isin(labels, list(self._stuff)), 0, loaded.painted.objects).astype(np.int64)
        pairs, ids = np.unique(
            np.where(labels == VOID, -1, labels.astype(np.int64) << 32 | objects), return_inverse=True
        )
        first = int(pairs[0] != -1)  # 0 is what nobody labelled
        ids = ids.reshape(labels.shape) + first
        colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
        Image.fromarray(colours).save(masks / f"{name}.png")
        segments = []
        for number, pair in enumerate(pairs.tolist(), first):
            if pair == -1:
                continue
            if pair & 0xFFFFFFFF:
                self._things.add(pair >> 32)
            segments.append({"id": number, "category_id": (pair >> 32) + 1, "iscrowd": 0, **_extent(ids == number)})
        key = len(self._images["train"]) + len(self._images["val"]) + 1
        size = {"width": labels.shape[1], "height": labels.shape[0]}
        self._images[split].append({"id": key, "file_name": photo.name, **size})
        self._annotations[split].append({"image_id": key, "file_name": f"{name}.png", "segments_info": segments})

    def finish(self) -> None:
        """See `LayoutWriter`."""
        categories = [
            {"id": index + 1, "name": name, "supercategory": "", "isthing": int(index in self._things)}
            for index, name in enumerate(self.classes)
        ]
        for split, images in self._images.items():
            if images:
                document = {"images": images, "annotations": self._annotations[split], "categories": categories}
                write_json(self.work / "annotations" / f"panoptic_{split}2017.json", document)


def _extent(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    return {"bbox": box, "area": int(mask.sum())}
