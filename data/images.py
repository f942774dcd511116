"""Photos beside masks: the pixels as they are stored, because masks are made from stored pixels.

Cameras note in EXIF how they were held, and viewers turn the photo by that note. The masks of data sets lie as the
stored pixels do, whatever the note says, and so photos are read here. One case is told from the sizes: a mask that was
drawn on the photo as shown. Where only the turned photo has the mask's size, the photo is turned.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from ..bundle.errors import DatasetError, SourceError
from ..bundle.files import read_bounded
from ..bundle.image_files import MOST_BYTES
from ..runtime.capture.photos import decode_photo
from ..runtime.opencv import cv2


def read_stored(path: Path, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """A photo (H, W, 3) BGR as its pixels are stored; turned upright where only so it has `size` (H, W) of its mask.

    Raises `DatasetError`.
    """
    upright, content = _decoded(path)
    if not is_turned(path):
        return upright
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    stored = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), flags), np.uint8)
    return upright if size is not None and stored.shape[:2] != size == upright.shape[:2] else stored


def read_upright(path: Path) -> npt.NDArray[np.uint8]:
    """A photo (H, W, 3) BGR as viewers show it. Raises `DatasetError`."""
    return _decoded(path)[0]


def _decoded(path: Path) -> tuple[npt.NDArray[np.uint8], bytes]:
    try:
        content = read_bounded(path, MOST_BYTES)
        return decode_photo(content, path.name), content
    except (OSError, SourceError) as error:
        raise DatasetError(f"cannot decode the photo {path} ({error}); remove it or copy it again") from error


def is_turned(path: Path) -> bool:
    """Whether a photo asks to be turned when it is shown."""
    # OpenCV has read it; on notes that are damaged Pillow raises whatever it trips over.
    with suppress(Exception), Image.open(path) as picture:
        if picture.format == "PNG" and "exif" not in picture.info:
            return False  # to look for it behind the pixels would decode them
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1)) != 1
    return False
