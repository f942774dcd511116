"""Index masks: `classes.json`, `images/train/`, `masks/train/`, the layout that `ovs-train --data` reads."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from ...bundle.errors import UsageError
from ...runtime.opencv import cv2
from ..geometry.regions import LabelledRegion, label_map
from ..inputs.pictures import InputPicture
from ..store import Store
from .label_writer import LabelWriter, Records, WriterOptions

_NOTHING = 255  # not labelled
_MOST = 255  # classes


class MaskWriter(LabelWriter):
    """A pixel's value is the position of its class in `classes.json`, 255 where there is no label."""

    name = "masks"
    shapes = ()
    folder = "images/train"

    def __init__(self, options: WriterOptions) -> None:
        """Raises `UsageError` for more classes than fit in a byte."""
        super().__init__(options)
        if len(options.classes) > _MOST:
            raise UsageError(
                f"{len(options.classes)} classes do not fit in masks of 8 bits, at most {_MOST} do; use coco"
            )

    def write_picture(
        self, store: Store, picture: InputPicture, regions: Sequence[LabelledRegion], file: str | None
    ) -> None:
        """See `LabelWriter`."""
        height, width = picture.image.shape[:2]
        labels = label_map(tuple(regions), (height, width), _NOTHING).astype(np.uint8)
        written, data = cv2.imencode(".png", labels)
        assert written
        store.write(f"masks/train/{picture.name}.png", data.tobytes())

    def finish(self, store: Store, records: Records) -> None:
        """See `LabelWriter`."""
        text = json.dumps(list(self.options.classes), indent=1, ensure_ascii=False) + "\n"
        store.write("classes.json", text.encode())
