"""What `Segmenter.predict` takes for a picture, and how it becomes (H, W, 3) uint8 BGR.

    uint8 (H, W, 3)            BGR as OpenCV reads it, or RGB with `rgb=True`; used as it is
    (H, W) or (H, W, 1)        grey, repeated for the three channels
    (H, W, 4)                  the alpha channel is ignored
    uint16                     full range, 0 to 65535, scaled to 0..255
    float16, float32, float64  0 to 1, scaled to 0..255
    PIL.Image                  converted to RGB; its EXIF orientation is not applied
    str or Path                a photo file, turned upright by its EXIF orientation

Arrays may have either byte order. A picture has at most 2**27 pixels (134 million) and 32,767 pixels a side.
Everything else raises `TypeError` (the wrong kind of thing) or `ValueError` (the wrong shape, size or range).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import note
from ..capture.photos import read_photo
from ..opencv import cv2

# On one core 2**27 pixels take a few seconds, and maps of 1.1 GB; OpenCV's functions take no longer sides.
MOST_PIXELS, MOST_SIDE = 2**27, 32767
_NARROW = 0.25  # of uint16's range: a picture that uses less shows next to nothing in 8 bits
_FAINT = 16 / 255  # as much of floats from 0 to 1, which may well be dark; 12 bits of 16 use less
_OVERSHOOT = 0.1  # by which resizing and filters leave 0 to 1
_NORMALISED = 10.0  # larger numbers than come of subtracting a mean and dividing by a standard deviation
_ALPHA_MODES = ("LA", "PA", "La", "RGBA", "RGBa")  # Pillow's

Bgr = npt.NDArray[np.uint8]


def as_bgr(image: Any, *, rgb: bool = False) -> Bgr:
    """`image` as (H, W, 3) uint8 BGR; see the module. Raises `TypeError`, `ValueError`, and for a file `SourceError`."""
    if isinstance(image, (str, Path)):
        photo = read_photo(Path(image), note)
        _refuse_size(*photo.shape[:2])
        return photo
    if hasattr(image, "mode") and hasattr(image, "convert"):  # a PIL.Image, without importing Pillow
        _refuse_size(image.height, image.width)
        image, rgb = _from_pillow(image), True
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"the picture is a {type(image).__module__}.{type(image).__name__}, expected a NumPy array (H, W, 3), a "
            "PIL.Image or a file's path; convert it with numpy.asarray first"
        )
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or 0 in image.shape or image.shape[2] not in (1, 3, 4):
        advice = ""
        if image.ndim == 3 and image.shape[0] in (1, 3, 4):
            advice = "; channels come last: image.transpose(1, 2, 0)"
        elif image.ndim == 4:
            advice = "; give one picture at a time"
        raise ValueError(
            f"the picture has shape {list(image.shape)}, expected [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]{advice}"
        )
    _refuse_size(*image.shape[:2])
    pixels = np.ascontiguousarray(_to_uint8(image))
    if pixels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR))
    if pixels.shape[2] == 4:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGR if rgb else cv2.COLOR_BGRA2BGR))
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)) if rgb else pixels


def _refuse_size(height: int, width: int) -> None:
    if height * width > MOST_PIXELS or max(height, width) > MOST_SIDE:
        raise ValueError(
            f"the picture has {width}x{height} pixels, expected at most {MOST_PIXELS:,} in all and {MOST_SIDE:,} a side; "
            "scale it down, or cut it into parts"
        )


def _from_pillow(image: Any) -> npt.NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"the PIL.Image has mode {image.mode}, whose range is not known; scale it to 8 bits and convert it to L"
        )
    return np.asarray(image.convert("RGBA" if image.mode in _ALPHA_MODES else "RGB"))


def _to_uint8(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    kind = image.dtype.newbyteorder("=")
    image = image.astype(kind, copy=False)  # the same numbers in this machine's byte order
    if kind == np.uint8:
        return image
    if kind == np.uint16:
        low, high = int(image.min()), int(image.max())
        if 0 < high - low < _NARROW * 65535:
            raise ValueError(
                f"the 16-bit picture uses values {low} to {high} only, of 0 to 65535, and would show next to nothing; "
                "scale it to the range that matters first, for instance with cv2.normalize"
            )
        return np.asarray((image.astype(np.uint32) * 255 + 32767) // 65535, np.uint8)
    if kind in (np.float16, np.float32, np.float64):
        if not np.isfinite(image).all():
            raise ValueError("the picture holds NaN or infinity, expected floats from 0 to 1")
        least, most = float(image.min()), float(image.max())
        if least < 0 or most > 1:
            raise ValueError(
                f"the picture holds floats from {least:g} to {most:g}, expected 0 to 1; {_advice(least, most)}"
            )
        if 0 < most - least <= _FAINT:
            raise ValueError(
                f"the picture uses floats from {least:g} to {most:g} only, of 0 to 1, and would show next to nothing; "
                "scale it to the range that matters first, for instance with cv2.normalize"
            )
        return np.asarray(np.rint(image.astype(np.float32) * 255), np.uint8)
    raise TypeError(f"the picture holds {kind} values, expected uint8, uint16 or floats from 0 to 1")


def _advice(least: float, most: float) -> str:
    """How floats beyond 0 to 1 get there, by what they most likely are."""
    if least >= -_OVERSHOOT and most <= 1 + _OVERSHOOT:
        return "use numpy.clip(image, 0, 1)"
    if least < 0 and max(-least, most) <= _NORMALISED:
        return "it looks normalised; undo it, e.g. image * std + mean, or image / 2 + 0.5 for -1 to 1"
    if least < 0:
        return "shift and scale it to 0 to 1"
    if most > 255:
        return "divide it by the largest value that a pixel can have, such as 65535"
    return "for 0 to 255 use image.astype(numpy.uint8)"
