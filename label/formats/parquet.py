"""Parquet: a row for each picture, a file for each shard. Regions are a list of structs with COCO's run lengths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...bundle.errors import require
from ..records import PictureRecord
from ..store import Store
from .label_writer import LabelWriter, WriterOptions


class ParquetWriter(LabelWriter):
    """`part-NNNNNN-NNNN.parquet`; the classes stand in the schema's metadata, and by name in each region."""

    name = "parquet"
    shapes = ()
    with_pictures = False

    def __init__(self, options: WriterOptions) -> None:
        """Raises `MissingExtraError`."""
        super().__init__(options)
        self._arrow: Any = require("pyarrow", "label")
        self._parquet: Any = require("pyarrow.parquet", "label")

    def write_shard(self, store: Store, name: str, records: Sequence[PictureRecord]) -> None:
        """See `LabelWriter`; a shard in which nothing could be labelled has no file."""
        labelled = [record for record in records if record.error is None]
        if not labelled:
            return
        rows = [self._row(record) for record in labelled]
        sink = self._arrow.BufferOutputStream()
        self._parquet.write_table(self._arrow.Table.from_pylist(rows, schema=self._schema()), sink, compression="zstd")
        store.write(f"part-{name}.parquet", sink.getvalue().to_pybytes())

    def _row(self, record: PictureRecord) -> dict[str, Any]:
        height, width = record.size
        return {
            "name": record.name,
            "source": record.source,
            "time": record.time,
            "width": width,
            "height": height,
            "file": record.file,
            "regions": [
                {
                    "class_id": region.index,
                    "class": self.options.classes[region.index],
                    "box": list(region.box),
                    "pixels": region.pixels,
                    "confidence": region.confidence,
                    "counts": region.counts,
                }
                for region in record.regions
            ],
        }

    def _schema(self) -> Any:
        arrow = self._arrow
        region = arrow.struct(
            [
                ("class_id", arrow.int32()),
                ("class", arrow.string()),
                ("box", arrow.list_(arrow.int32(), 4)),
                ("pixels", arrow.int64()),
                ("confidence", arrow.float64()),
                ("counts", arrow.string()),
            ]
        )
        columns = [
            ("name", arrow.string()),
            ("source", arrow.string()),
            ("time", arrow.float64()),
            ("width", arrow.int32()),
            ("height", arrow.int32()),
            ("file", arrow.string()),
            ("regions", arrow.list_(region)),
        ]
        classes = json.dumps(list(self.options.classes), ensure_ascii=False)
        return arrow.schema(columns, metadata={"classes": classes, "bundle": self.options.digest})
