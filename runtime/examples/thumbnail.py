"""A small picture of a region, for people who look at what was shown."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..opencv import cv2
from .region import Mask

_SIDE = 96  # pixels of the longer side
_MARGIN = 0.15  # of the region's size, around it
_OUTSIDE = 0.45  # brightness of what does not belong to the region
_QUALITY = 80  # of the JPEG


def thumbnail(image: npt.NDArray[np.uint8], mask: Mask) -> bytes:
    """JPEG of the part of `image` (H, W, 3) BGR that shows `mask` (H, W); nothing where it cannot be encoded."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    down, across = round(_MARGIN * (bottom - top)) + 1, round(_MARGIN * (right - left)) + 1
    part = (slice(max(0, top - down), bottom + down), slice(max(0, left - across), right + across))
    crop = image[part].astype(np.float32)
    crop[~mask[part]] *= _OUTSIDE
    scale = min(1.0, _SIDE / max(crop.shape[:2]))
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    encoded, data = cv2.imencode(".jpg", small.round().astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(data) if encoded else b""
