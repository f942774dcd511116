"""What is kept of a labelled picture: one line of JSON, from which every format can be written and the review is ranked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..runtime.inference.interop import decode_rle
from .geometry.outlines import flat, outlines
from .geometry.regions import LabelledRegion
from .inputs.pictures import InputPicture


@dataclass(frozen=True)
class RegionRecord:
    """A region of a picture."""

    index: int  # of its class
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels; x1 and y1 lie just outside
    pixels: int
    confidence: float  # 0..1, four digits
    counts: str  # COCO's compressed run lengths
    polygons: tuple[tuple[float, ...], ...] = ()  # x1, y1, x2, y2, …; where the format is one of polygons


@dataclass(frozen=True)
class PictureRecord:
    """A picture that was labelled, or why it was not."""

    name: str
    source: str  # for people: a path, `archive.zip: a/b.jpg`, or a video's path
    time: float | None = None  # seconds in a video
    size: tuple[int, int] = (0, 0)  # height, width
    file: str | None = None  # of the picture in the output folder
    regions: tuple[RegionRecord, ...] = ()
    error: str | None = None  # why it could not be labelled

    def to_json(self) -> str:
        """One line."""
        line: dict[str, Any] = {"name": self.name, "source": self.source}
        if self.time is not None:
            line["time"] = self.time
        if self.error is not None:
            return json.dumps({**line, "error": self.error})
        regions = [
            [region.index, list(region.box), region.pixels, region.confidence, region.counts]
            + ([[list(polygon) for polygon in region.polygons]] if region.polygons else [])
            for region in self.regions
        ]
        return json.dumps({**line, "size": list(self.size), "file": self.file, "regions": regions})

    @classmethod
    def from_json(cls, line: str | bytes) -> PictureRecord:
        """What `to_json` wrote. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
        entry = json.loads(line)
        if "error" in entry:
            return cls(entry["name"], entry["source"], entry.get("time"), error=str(entry["error"]))
        regions = tuple(
            RegionRecord(index, (x0, y0, x1, y1), pixels, confidence, counts, _polygons(*more))
            for index, (x0, y0, x1, y1), pixels, confidence, counts, *more in entry["regions"]
        )
        height, width = entry["size"]
        return cls(entry["name"], entry["source"], entry.get("time"), (height, width), entry["file"], regions)


def _polygons(given: Sequence[Sequence[float]] = ()) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(polygon) for polygon in given)


def record_of(
    picture: InputPicture,
    regions: Sequence[LabelledRegion],
    file: str | None,
    *,
    polygons: bool,
    tolerance: float,
) -> PictureRecord:
    """The record of a labelled picture; `file` is where it was written."""
    height, width = picture.image.shape[:2]
    records = tuple(
        RegionRecord(
            region.index,
            region.box,
            region.pixels,
            round(region.confidence, 4),
            region.counts,
            tuple(tuple(flat(polygon)) for polygon in outlines(region, tolerance)) if polygons else (),
        )
        for region in regions
    )
    time = None if picture.time is None else round(picture.time, 6)
    return PictureRecord(picture.name, picture.source, time, (height, width), file, records)


def decoded(record: PictureRecord) -> tuple[LabelledRegion, ...]:
    """The regions with their masks. Raises `UsageError` for run lengths that do not fill the picture."""
    regions = []
    for region in record.regions:
        x0, y0, x1, y1 = region.box
        mask = decode_rle({"size": record.size, "counts": region.counts})[y0:y1, x0:x1]
        regions.append(LabelledRegion(region.index, region.box, mask, region.pixels, region.confidence, region.counts))
    return tuple(regions)
