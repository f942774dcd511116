"""In which form a format holds regions."""

from __future__ import annotations

from enum import Enum


class Shape(str, Enum):
    """What `--shape` chooses between."""

    AUTO = "auto"  # the format's usual form
    POLYGON = "polygon"
    MASK = "mask"  # run lengths or a bitmap
