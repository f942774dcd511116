"""Which files are photos: the one list that training, calibration, benchmarks and the runtime share.

A suffix makes a file a candidate, and so does what stands at its beginning; the decoder has the last word.
"""

from __future__ import annotations

import os
from pathlib import Path

# What OpenCV decodes in its usual builds, and what cameras and phones write.
IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".dib",
        ".webp",
        ".avif",
        ".heic",
        ".heif",
        ".jp2",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
MOST_BYTES = 2**29  # of a photo's file
HEAD = 512  # bytes that `image_kind` and `file_kind` look at

_IMAGES = (  # where, what stands there, name of the format
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"GIF8", "GIF"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
)
PLAYLIST = "a playlist"
_OTHERS = (
    (0, b"version https://git-lfs", "a Git LFS pointer (run: git lfs pull)"),
    (0, b"<!DOCTYPE html", "a web page"),
    (0, b"<!doctype html", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"<?xml", "XML"),
    (0, b"<svg", "SVG, which has no pixels"),
    (0, b"<MPD", f"{PLAYLIST} (DASH)"),
    (0, b"%PDF", "PDF"),
    (0, b"8BPS", "a Photoshop file (PSD)"),
    (0, b"#EXTM3U", f"{PLAYLIST} (M3U)"),
    (0, b"[playlist]", f"{PLAYLIST} (PLS)"),
    (0, b"ffconcat", "a list of files (ffconcat)"),
    (0, b"v=0\r\n", "a session description (SDP)"),
    (0, b"v=0\n", "a session description (SDP)"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (4, b"ftyp", "a video (MP4 or MOV)"),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (8, b"AVI ", "a video (AVI)"),
    (0, b"\0\x05\x16\x07", "macOS's AppleDouble data, not the photo itself"),
)


def is_image_name(path: Path | str) -> bool:
    """Whether the name ends like a photo's. Hidden files (".x.jpg", macOS's "._x.jpg") are not photos."""
    name = os.path.basename(os.fspath(path))
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def image_kind(head: bytes) -> str | None:
    """The image format of a file that begins with `head` (`HEAD` bytes), or None for what is no image known here."""
    for at, magic, name in _IMAGES:
        if head[at : at + len(magic)] == magic:
            return name
    return "BMP" if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" else None


def file_kind(head: bytes) -> str | None:
    """What a file that begins with `head` is, for messages; None where that is not known."""
    if (image := image_kind(head)) is not None:
        return image
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<?xml"):  # what kind of XML stands behind declarations
        start = next((start[start.index(tag) :] for tag in (b"<svg", b"<MPD", b"<html") if tag in start), start)
    return next((name for at, magic, name in _OTHERS if start[at : at + len(magic)] == magic), None)


def is_image_file(path: Path) -> bool:
    """Whether a file that is not hidden has a photo's name or begins like one. False where it cannot be read."""
    if is_image_name(path):
        return True
    if path.name.startswith("."):
        return False
    try:
        if not path.is_file():  # opening a pipe would wait for a writer
            return False
        with path.open("rb") as stream:
            return image_kind(stream.read(HEAD)) is not None
    except OSError:
        return False
