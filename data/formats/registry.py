"""All label formats. A new one is its own module and one entry in `FORMATS`."""

from __future__ import annotations

from pathlib import Path

from ...bundle.errors import DatasetError, UsageError
from ..readers.other_formats import other_format
from .coco_instances import CocoInstances
from .colour_masks import BinaryMasks, ColourMasks
from .cvat_xml import CvatXml
from .label_format import LabelFormat
from .labelme import LabelMe
from .published import Published
from .supervisely import Supervisely
from .yolo import Yolo

FORMATS: tuple[LabelFormat, ...] = (  # the first that recognises a folder reads it
    ColourMasks(),
    Published(),
    Supervisely(),
    Yolo(),
    CocoInstances(),
    CvatXml(),
    LabelMe(),
    BinaryMasks(),
)


def find_format(folder: Path, name: str | None = None) -> LabelFormat:
    """The format of a folder, or the one called `name`.

    Raises `UsageError` for a name of no format, `DatasetError` for a folder that none recognises.
    """
    names = ", ".join(known.name for known in FORMATS)
    if name is not None:
        for known in FORMATS:
            if known.name == name:
                return known
        raise UsageError(f"--from is {name!r}, expected one of: {names}")
    if not folder.is_dir():
        raise DatasetError(f"no folder {folder}; expected one with labelled photos")
    for known in FORMATS:
        if known.recognises(folder):
            return known
    found = other_format(folder)
    what = f"; it looks like {found}, which is not read" if found else ""
    raise DatasetError(f"{folder} holds no labels of a format that is known ({names}){what}; name it with --from")
