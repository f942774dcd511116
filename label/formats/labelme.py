"""LabelMe: a JSON file beside each photo, in one folder; regions as polygons or as bitmaps."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ...runtime.opencv import cv2
from ..geometry.outlines import outlines
from ..geometry.regions import LabelledRegion
from ..inputs.pictures import InputPicture
from ..store import Store
from .label_writer import LabelWriter
from .shape import Shape


class LabelMeWriter(LabelWriter):
    """Files of version 5, which LabelMe and X-AnyLabeling open."""

    name = "labelme"
    shapes = (Shape.POLYGON, Shape.MASK)
    folder = ""

    def write_picture(
        self, store: Store, picture: InputPicture, regions: Sequence[LabelledRegion], file: str | None
    ) -> None:
        """See `LabelWriter`."""
        height, width = picture.image.shape[:2]
        document = {
            "version": "5.4.1",
            "flags": {},
            "shapes": [shape for region in regions for shape in self._shapes(region)],
            "imagePath": PurePosixPath(file).name if file is not None else f"{picture.name}{picture.stored_as}",
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        store.write(f"{picture.name}.json", (json.dumps(document, ensure_ascii=False) + "\n").encode())

    def _shapes(self, region: LabelledRegion) -> list[dict[str, Any]]:
        common: dict[str, Any] = {
            "label": self.options.classes[region.index],
            "group_id": None,
            "description": "",
            "flags": {},
        }
        if self.shape is Shape.MASK:
            x0, y0, x1, y1 = region.box
            written, data = cv2.imencode(".png", region.mask.astype(np.uint8) * 255)
            assert written
            corners = [[x0, y0], [x1 - 1, y1 - 1]]
            bitmap = base64.b64encode(data.tobytes()).decode()
            return [{**common, "points": corners, "shape_type": "mask", "mask": bitmap}]
        return [
            {**common, "points": polygon.round(3).tolist(), "shape_type": "polygon"}
            for polygon in outlines(region, self.options.tolerance)
        ]
