"""YOLO segmentation: `data.yaml`, `images/train/` and `labels/train/`, a line for each polygon."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..geometry.outlines import outlines
from ..geometry.regions import LabelledRegion
from ..inputs.pictures import InputPicture
from ..store import Store
from .label_writer import LabelWriter, Records


class YoloWriter(LabelWriter):
    """A line is the class number and x, y of each point as shares of width and height, six digits behind the point."""

    name = "yolo"
    shapes = ()
    folder = "images/train"

    def write_picture(
        self, store: Store, picture: InputPicture, regions: Sequence[LabelledRegion], file: str | None
    ) -> None:
        """See `LabelWriter`; a photo in which nothing was found gets an empty file."""
        height, width = picture.image.shape[:2]
        lines = []
        for region in regions:
            for polygon in outlines(region, self.options.tolerance):
                shares = (polygon / (width, height)).clip(0, 1).ravel()
                lines.append(f"{region.index} " + " ".join(f"{value:.6f}" for value in shares.tolist()) + "\n")
        store.write(f"labels/train/{picture.name}.txt", "".join(lines).encode())

    def finish(self, store: Store, records: Records) -> None:
        """See `LabelWriter`; every photo is in train, `ovs-data convert --split` divides them."""
        # JSON's strings are YAML's.
        names = "".join(
            f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(self.options.classes)
        )
        # No `val`: the same photos in both would measure nothing.
        text = f"path: .\ntrain: images/train\nnames:\n{names}"
        store.write("data.yaml", text.encode())
