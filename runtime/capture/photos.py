"""Decoding photos."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SourceError
from ...bundle.files import read_bounded
from ...bundle.image_files import HEAD, MOST_BYTES, file_kind, image_kind
from ..opencv import cv2
from .video_files.pyav import pyav

_RARE = ("HEIC", "HEIF", "AVIF", "JPEG XL")  # formats that many builds of OpenCV cannot decode
_NARROW = 0.25  # of the values that a picture of more than 8 bits can hold: one that uses fewer would show nothing
_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the marker that ends the compressed data of a JPEG's scan

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR


def read_photo(path: Path, warn: Callable[[str], None] | None = None) -> Image:
    """Decode a file to (H, W, 3) uint8 BGR, turned upright; grey, 16-bit and alpha are converted.

    `warn` is called where the values of a picture of more than 8 bits are stretched to the visible range.
    Raises `SourceError` for what is no picture, or is cut short: decoders fill the missing part with grey.
    """
    try:
        if not path.is_file():
            raise SourceError(f"cannot read {path} ({_no_file(path)}); expected a photo")
        data = read_bounded(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"cannot read {path} ({reason}); check the file and its permissions") from error
    return decode_photo(data, str(path), warn)


def _no_file(path: Path) -> str:
    """What stands at `path` in place of a file."""
    if path.is_symlink() and not path.exists():
        return f"it is a link to nothing, {os.readlink(path)}"
    if path.is_dir():
        return "it is a folder"
    return "it is a pipe, a device or a socket" if path.exists() else "it is not there"


def decode_photo(data: bytes, name: str, warn: Callable[[str], None] | None = None) -> Image:
    """As `read_photo`, from the file's bytes; `name` is for messages."""
    if _cut_short(data):
        raise SourceError(f"{name} is cut short ({len(data)} bytes, no end mark); copy it again")
    image = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        image = _decode_by_pyav(data)
    if image is None:
        raise SourceError(f"{name} does not decode as a picture ({_found(data)})")
    if image.dtype == np.uint8:
        return image
    return _to_8_bits(image, data, name, warn)


def _decode(data: bytes, flags: int) -> npt.NDArray[Any] | None:
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        return None
    return decoded if decoded is not None and decoded.ndim == 3 and decoded.size else None


def _decode_by_pyav(data: bytes) -> Image | None:
    """HEIC and the like, where FFmpeg knows them and OpenCV does not. None for a picture in tiles, as phones make."""
    av = pyav()
    if av is None or image_kind(data[:HEAD]) not in _RARE:
        return None
    try:
        with av.open(io.BytesIO(data)) as container:
            if len(container.streams.video) != 1:
                return None
            frame = next(container.decode(video=0))
            image: Image = np.ascontiguousarray(
                np.rot90(frame.to_ndarray(format="bgr24"), round(frame.rotation / 90) % 4)
            )
            return image
    except (av.error.FFmpegError, StopIteration, ValueError):
        return None


def _to_8_bits(image: npt.NDArray[Any], data: bytes, name: str, warn: Callable[[str], None] | None) -> Image:
    values = image.astype(np.float32)
    values[~np.isfinite(values)] = 0
    low, high = np.percentile(values[:: max(1, len(values) // 512)], (0.1, 99.9))
    largest = 1.0 if image.dtype.kind == "f" else float(np.iinfo(image.dtype).max)
    if high > low and (high - low < _NARROW * largest or high > 1.01 * largest or low < -0.01 * largest):
        if warn is not None:
            warn(f"{name} uses values {low:g} to {high:g} only, of 0 to {largest:g}; they are stretched to 0 to 255")
        return np.asarray(np.clip((values - low) * (255 / (high - low)), 0, 255).round(), np.uint8)
    if image.dtype == np.uint16 and (usual := _decode(data, cv2.IMREAD_COLOR)) is not None and usual.dtype == np.uint8:
        return usual
    return np.asarray(np.clip(values * (255 / largest), 0, 255).round(), np.uint8)


def _found(data: bytes) -> str:
    if not data:
        return "it is empty; copy it again"
    kind = file_kind(data[:HEAD])
    if kind in _RARE:
        return f"it is {kind}, which this OpenCV cannot decode, or damaged; convert it to JPEG or PNG"
    if kind is not None and kind[0].isupper() and " " not in kind:
        return f"damaged {kind} data, {len(data)} bytes; copy it again"
    if kind is not None:
        return f"it is {kind}; expected JPEG, PNG, BMP or such"
    return f"{len(data)} bytes; expected JPEG, PNG, BMP or such"


def _cut_short(data: bytes) -> bool:
    if data.startswith(b"\xff\xd8"):
        return not _jpeg_ends(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return not _png_ends(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0":
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def _jpeg_ends(data: bytes) -> bool:
    """Whether the picture's own end mark is there. Phones append clips and second pictures, which have marks too."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0xD9:
            return True
        if marker == 0xFF or marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # filling, or without a body
            at += 1
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            end = _IN_SCAN.search(data, at)
            if end is None:
                return False
            at = end.start()
    return False


def _png_ends(data: bytes) -> bool:
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False
