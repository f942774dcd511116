"""All output formats. A new one is its own module and one line in `WRITERS`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ...bundle.errors import UsageError
from .shape import Shape

if TYPE_CHECKING:
    from .label_writer import LabelWriter, WriterOptions

# Value of --format -> module:class of its writer.
WRITERS = {
    "coco": ".coco:CocoWriter",
    "yolo": ".yolo:YoloWriter",
    "masks": ".masks:MaskWriter",
    "labelme": ".labelme:LabelMeWriter",
    "cvat": ".cvat:CvatWriter",
    "parquet": ".parquet:ParquetWriter",
}


def open_writer(name: str, options: WriterOptions) -> LabelWriter:
    """The writer of a format.

    Raises `UsageError` for one that is not there, or a form that it does not have; `MissingExtraError`.
    """
    if name not in WRITERS:
        raise UsageError(f"--format is {name!r}, expected one of: {', '.join(WRITERS)}")
    module, kind = WRITERS[name].split(":")
    writer: type[LabelWriter] = getattr(import_module(module, __package__), kind)
    if options.shape is not Shape.AUTO and options.shape not in writer.shapes:
        raise UsageError(f"--shape {options.shape.value} is not for {name}, which has one form only; leave it out")
    return writer(options)
