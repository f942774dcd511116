"""COCO instances: `annotations/instances.json` beside `images/`, regions as run lengths or polygons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import IO, Any

from ..records import PictureRecord, RegionRecord
from ..store import Store
from .label_writer import LabelWriter, Records
from .shape import Shape


class CocoWriter(LabelWriter):
    """Categories are numbered from 1 in the order of the classes, images and annotations in that of the inputs."""

    name = "coco"
    shapes = (Shape.MASK, Shape.POLYGON)

    @property
    def polygons(self) -> bool:
        """See `LabelWriter`."""
        return self.shape is Shape.POLYGON

    def finish(self, store: Store, records: Records) -> None:
        """See `LabelWriter`; written as it is read, since a million photos do not fit in memory."""
        categories = [{"id": number, "name": name} for number, name in enumerate(self.options.classes, 1)]
        with store.writing("annotations/instances.json") as stream:
            stream.write('{\n"info": {"description": "labelled by ovs-edge"},\n"licenses": [],\n')
            stream.write(f'"categories": {json.dumps(categories, ensure_ascii=False)},\n"images": [')
            _write_list(stream, (_image(number, record) for number, record in enumerate(records(), 1)))
            stream.write('],\n"annotations": [')
            _write_list(stream, self._annotations(records()))
            stream.write("]\n}\n")

    def _annotations(self, records: Iterator[PictureRecord]) -> Iterator[dict[str, Any]]:
        number = 0
        for image, record in enumerate(records, 1):
            for region in record.regions:
                number += 1
                x0, y0, x1, y1 = region.box
                yield {
                    "id": number,
                    "image_id": image,
                    "category_id": region.index + 1,
                    "segmentation": self._segmentation(region, record.size),
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": region.pixels,
                    "iscrowd": 0,
                    "score": region.confidence,
                }

    def _segmentation(self, region: RegionRecord, size: tuple[int, int]) -> Any:
        if self.shape is Shape.POLYGON:
            return [list(polygon) for polygon in region.polygons]
        return {"size": list(size), "counts": region.counts}


def _image(number: int, record: PictureRecord) -> dict[str, Any]:
    height, width = record.size
    # COCO's names are relative to the folder of the images.
    name = record.name if record.file is None else record.file.partition("/")[2]
    return {"id": number, "file_name": name, "width": width, "height": height, "source": record.source}


def _write_list(stream: IO[str], entries: Iterable[dict[str, Any]]) -> None:
    for place, entry in enumerate(entries):
        stream.write(("," if place else "") + "\n" + json.dumps(entry, ensure_ascii=False))
