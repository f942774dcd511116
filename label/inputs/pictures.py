"""One picture to be labelled: decoded, upright, with the bytes of its file where it has one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SourceError
from ...bundle.image_files import HEAD, image_kind, is_image_name
from ...runtime.capture.photos import decode_photo
from ...runtime.opencv import cv2

_QUALITY = 95  # of JPEGs of video frames
_ORIENTATION = 0x0112
_NOTES = re.compile(rb"(?:Exif\0\0|eXIf|EXIF....)((?:II\*\0|MM\0\*).)", re.DOTALL)
_MARKS = (b"Exif", b"eXIf", b"EXIF")
_LOOKED_AT = 2**18  # bytes in which the note is searched
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "TIFF": ".tif", "BMP": ".bmp", "GIF": ".gif"}


@dataclass(frozen=True)
class InputPicture:
    """A photo or a frame of a video."""

    name: str  # of the files that are written for it, without suffix; unique in the job
    source: str  # where it comes from, for people: a path, `archive.zip: a/b.jpg`, or a video's path
    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR, upright
    time: float | None = None  # seconds in a video
    content: bytes | None = None  # its file; None for a frame of a video
    path: Path | None = None  # its file, where it lies on this machine by itself
    suffix: str = ".jpg"  # of its file
    turned: bool = False  # a note in the file asks viewers to turn it

    @property
    def stored_as(self) -> str:
        """The suffix of the file that `encoded` gives."""
        return ".png" if self.turned else self.suffix

    def encoded(self) -> bytes:
        """The picture as a file whose stored pixels are the labelled ones: its own, or a new one without loss.

        A photo whose note turns it is written turned, since tools differ in whether they follow the note. Frames of
        videos become JPEGs.
        """
        if self.content is not None and not self.turned:
            return self.content
        options = [] if self.turned else [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
        written, data = cv2.imencode(self.stored_as, self.image, options)
        assert written
        encoded: bytes = data.tobytes()
        return encoded


def decode(name: str, source: str, content: bytes, path: Path | None = None) -> InputPicture:
    """A photo from its bytes. Raises `SourceError`."""
    try:
        image = decode_photo(content, source)
    except (cv2.error, MemoryError, ValueError) as error:
        raise SourceError(f"{source} does not decode ({str(error)[:200]}); convert it or leave it out") from error
    given = Path(source).suffix
    suffix = given if is_image_name(f"x{given}") else _SUFFIXES.get(image_kind(content[:HEAD]) or "", ".jpg")
    turned = orientation(content) != 1
    return InputPicture(name, source, image, content=content, path=path, suffix=suffix, turned=turned)


def orientation(content: bytes) -> int:
    """The EXIF orientation of a photo, 1 to 8; 1, upright, where there is none."""
    if content[:4] in (b"II*\0", b"MM\0*"):
        return _noted(content)
    if not any(content.find(mark, 0, _LOOKED_AT) >= 0 for mark in _MARKS):  # most have none, and this is fast
        return 1
    found = _NOTES.search(content, 0, _LOOKED_AT)
    return 1 if found is None else _noted(content[found.start(1) :][:_LOOKED_AT])


def _noted(data: bytes) -> int:
    """The orientation in the first directory of a TIFF header."""
    order = "little" if data[:1] == b"I" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little" if order == "little" else "big")

    start = number(4, 4)
    for entry in range(number(start, 2) if start + 2 <= len(data) else 0):
        at = start + 2 + 12 * entry
        if at + 12 > len(data):
            break
        if number(at, 2) == _ORIENTATION:
            value = number(at + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1
