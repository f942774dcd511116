"""The pictures of a review as a project to correct them in: an archive for CVAT, or tasks for Label Studio.

Both export what was corrected in a format that `ovs-data convert` reads.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..formats.cvat import CvatWriter
from ..formats.label_writer import WriterOptions
from ..formats.shape import Shape
from ..geometry.outlines import flat, outlines
from ..records import PictureRecord, decoded

_TOLERANCE = 0.75  # pixels: outlines that a person can move point by point
_EPOCH = (1980, 1, 1, 0, 0, 0)  # of the files in an archive, so that the same review is the same bytes

Pictures = Sequence[tuple[PictureRecord, bytes, str]]  # a record, the file of its picture, and the file's suffix


def cvat_archive(pictures: Pictures, classes: Sequence[str]) -> bytes:
    """A zip of `annotations.xml` and `images/`: CVAT's "CVAT for images 1.1"."""
    writer = CvatWriter(WriterOptions(tuple(classes), Shape.POLYGON, _TOLERANCE))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        records = [
            replace(with_polygons(record), file=f"images/{record.name}{suffix}") for record, _, suffix in pictures
        ]
        _add(archive, "annotations.xml", "".join(writer.lines(iter(records))).encode())
        for record, data, suffix in pictures:
            _add(archive, f"images/{record.name}{suffix}", data)
    return stream.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)


def with_polygons(record: PictureRecord) -> PictureRecord:
    """The record with polygons of its regions that have few points."""
    masks = decoded(record)
    regions = [
        replace(region, polygons=tuple(tuple(flat(polygon)) for polygon in outlines(mask, _TOLERANCE)))
        for region, mask in zip(record.regions, masks, strict=True)
    ]
    return replace(record, regions=tuple(regions))


def label_studio_tasks(pictures: Pictures, classes: Sequence[str]) -> Iterator[str]:
    """Tasks in Label Studio's JSON, in pieces: the pictures lie in them, the labels are predictions to be corrected."""
    yield "["
    for number, (record, data, suffix) in enumerate(pictures):
        task = {
            "data": {"image": _address(data, suffix), "name": record.name},
            "predictions": [_predicted(record, classes)],
        }
        yield ("," if number else "") + "\n" + json.dumps(task, ensure_ascii=False)
    yield "\n]\n"


def label_studio_config(classes: Sequence[str]) -> str:
    """The labelling interface that the tasks belong to."""
    from xml.sax.saxutils import quoteattr

    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in classes)
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        f'  <PolygonLabels name="label" toName="image" opacity="0.5">\n{labels}  </PolygonLabels>\n</View>\n'
    )


def _address(data: bytes, suffix: str) -> str:
    kind = {".png": "png", ".webp": "webp", ".bmp": "bmp", ".gif": "gif"}.get(suffix.lower(), "jpeg")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _predicted(record: PictureRecord, classes: Sequence[str]) -> dict[str, Any]:
    height, width = record.size
    results: list[dict[str, Any]] = []
    for region in with_polygons(record).regions:
        for polygon in region.polygons:
            shares = [round(value / (width, height)[place % 2] * 100, 4) for place, value in enumerate(polygon)]
            points = [list(pair) for pair in zip(shares[::2], shares[1::2], strict=True)]
            results.append(
                {
                    "id": f"{record.name}-{len(results)}",
                    "type": "polygonlabels",
                    "from_name": "label",
                    "to_name": "image",
                    "original_width": width,
                    "original_height": height,
                    "value": {"points": points, "closed": True, "polygonlabels": [classes[region.index]]},
                    "score": region.confidence,
                }
            )
    return {"model_version": "ovs-edge", "result": results}
