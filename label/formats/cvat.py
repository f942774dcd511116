"""CVAT's XML for images (1.1): `annotations.xml` beside `images/`; regions as polygons or masks."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import quoteattr

import numpy as np

from ..geometry.regions import LabelledRegion
from ..records import PictureRecord, decoded
from ..store import Store
from .label_writer import LabelWriter, Records
from .shape import Shape

_COLOURS = ("#fa3253", "#3df53d", "#3d3df5", "#ffcc33", "#33ddff", "#ff6037", "#b83df5", "#2a7dd1")


class CvatWriter(LabelWriter):
    """What CVAT imports as "CVAT 1.1", packed with the pictures in a zip."""

    name = "cvat"
    shapes = (Shape.POLYGON, Shape.MASK)

    @property
    def polygons(self) -> bool:
        """See `LabelWriter`."""
        return self.shape is Shape.POLYGON

    def finish(self, store: Store, records: Records) -> None:
        """See `LabelWriter`."""
        with store.writing("annotations.xml") as stream:
            for line in self.lines(records()):
                stream.write(line)

    def lines(self, records: Iterator[PictureRecord]) -> Iterator[str]:
        """The document, in pieces."""
        yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task><labels>\n'
        for number, name in enumerate(self.options.classes):
            colour = _COLOURS[number % len(_COLOURS)]
            yield f"<label><name>{_text(name)}</name><color>{colour}</color></label>\n"
        yield "</labels></task></meta>\n"
        for number, record in enumerate(records):
            height, width = record.size
            name = record.name if record.file is None else record.file.partition("/")[2]
            yield f'<image id="{number}" name={_attribute(name)} width="{width}" height="{height}">\n'
            yield from self._shapes(record)
            yield "</image>\n"
        yield "</annotations>\n"

    def _shapes(self, record: PictureRecord) -> Iterator[str]:
        if self.shape is Shape.MASK:
            for region in decoded(record):
                yield f"<mask {self._label(region.index)} {_runs(region)}/>\n"
            return
        for part in record.regions:
            for polygon in part.polygons:
                pairs = zip(polygon[::2], polygon[1::2], strict=True)
                points = ";".join(f"{x},{y}" for x, y in pairs)
                yield f'<polygon {self._label(part.index)} points="{points}"/>\n'

    def _label(self, index: int) -> str:
        return f'label={_attribute(self.options.classes[index])} source="auto" occluded="0" z_order="0"'


def _runs(region: LabelledRegion) -> str:
    """CVAT's run lengths go along the rows of the box, starting with the pixels outside."""
    flat = region.mask.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=False))
    counts = np.diff(starts, prepend=0, append=flat.size).tolist()
    x0, y0, x1, y1 = region.box
    return f'rle="{", ".join(map(str, counts))}" left="{x0}" top="{y0}" width="{x1 - x0}" height="{y1 - y0}"'


def _attribute(text: str) -> str:
    return quoteattr(_plain(text))


def _text(text: str) -> str:
    return _plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(text: str) -> str:
    """Without the control characters that XML does not allow."""
    return "".join(max(sign, " ") for sign in text)
