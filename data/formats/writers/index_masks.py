"""Index masks beside classes.json, see `readers/index_masks.py`."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ....bundle.metrics import IGNORE
from ...labelled import VOID
from ...readers.reader import Split
from .layout import LayoutWriter, LoadedPhoto, write_json


class IndexMaskWriter(LayoutWriter):
    """classes.json, images/, masks/, and background/ for the photos of which it is known."""

    name = "masks"
    keeps_background = True

    def add(self, name: str, loaded: LoadedPhoto, split: Split) -> None:
        """See `LayoutWriter`."""
        self._write_photo(self.work / "images" / split, name, loaded)
        labels, background = loaded.painted.labels, loaded.painted.background
        masks = self.work / "masks" / split
        masks.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(labels == VOID, IGNORE, labels).astype(np.uint8)).save(masks / f"{name}.png")
        if background is not None and background.any():
            maps = self.work / "background" / split
            maps.mkdir(parents=True, exist_ok=True)
            Image.fromarray(background).save(maps / f"{name}.png")

    def finish(self) -> None:
        """See `LayoutWriter`."""
        write_json(self.work / "classes.json", list(self.classes))
