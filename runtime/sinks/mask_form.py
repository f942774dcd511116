"""How JSON lines hold masks."""

from __future__ import annotations

from enum import Enum


class MaskForm(str, Enum):
    """What `--rle` and `--polygons` choose between."""

    NONE = "none"
    RLE = "rle"  # COCO's compressed run-length encoding
    POLYGONS = "polygons"  # outlines [[x, y], ...], the outer one first, then those of holes
