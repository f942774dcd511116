"""Why a video cannot be read, and whether it is all there: from the structure of the file, for messages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ....bundle.image_files import HEAD, file_kind

CONVERT = "convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
_EXPECTED = "expected a video such as .mp4 or .avi, or a photo (.jpg, .png)"
# Most MP4 files have their index at the end, and a pipe cannot be wound forward and back.
_PIPE = "expected a video that plays as it comes: MPEG-TS, Matroska, AVI, or MP4 made with -movflags +faststart"
_MOST_INDEX = 64 * 2**20  # bytes of an index that are looked at


def why_unreadable(shown: str, file: str | None, place: str) -> str:
    """The message for what no decoder takes: `file` is its path, if it is one; `shown` is what it is called."""
    if file is None:
        return f"{shown} does not decode as a video; {_PIPE if place == '-' else _EXPECTED}"
    try:
        with open(file, "rb") as stream:
            head = stream.read(HEAD)
            boxes = list(_boxes(stream)) if head[4:8] in _BOXES else []
    except OSError as error:
        return f"cannot read {shown} ({error.strerror}); check the file and its permissions"
    if not head:
        return f"{shown} does not decode as a video: it is empty; copy it again"
    if boxes and not any(kind in (b"moov", b"moof") for kind, _, _ in boxes):
        return (
            f"{shown} does not decode as a video: its index (moov) is missing, so it is cut short or still being "
            "written; copy it again"
        )
    if boxes and not _has_pictures(file, boxes):
        return f"{shown} has no picture track; give a video"
    kind = file_kind(head)
    if kind is not None and not kind.startswith("a video"):
        return f"{shown} does not decode as a video: it is {kind}; {_EXPECTED}"
    return f"{shown} does not decode as a video; {_EXPECTED}"


def cut_short(file: Path) -> str | None:
    """How much of a video file is missing, by the sizes that it states itself; None where it is complete or unknown."""
    try:
        there = file.stat().st_size
        with file.open("rb") as stream:
            stated = _stated_size(stream)
    except OSError:
        return None
    return f"{there:,} of {stated:,} bytes are there" if stated is not None and stated > there else None


_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"pnot", b"uuid"))


def _stated_size(stream: BinaryIO) -> int | None:
    head = stream.read(HEAD)
    if head[4:8] in _BOXES:
        return max((at + size for _, at, size in _boxes(stream)), default=None)
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        return size + 8 if size else None  # 0: its writer was killed
    if head[:4] == b"\x1aE\xdf\xa3":
        return _matroska_size(head)
    return None


def _boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and size of the boxes of MP4 and MOV (ISO 14496-12), the last one perhaps beyond the file's end."""
    end = os.fstat(stream.fileno()).st_size
    at = 0
    while at + 8 <= end:
        stream.seek(at)
        head = stream.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:  # up to the end
            size = end - at
        if size < 8:
            return
        yield kind, at, size
        at += size


def _has_pictures(file: str, boxes: list[tuple[bytes, int, int]]) -> bool:
    for kind, at, size in boxes:
        if kind == b"moov":
            with open(file, "rb") as stream:
                stream.seek(at)
                index = stream.read(min(size, _MOST_INDEX))
            handlers = [index[place + 12 : place + 16] for place in _places(index, b"hdlr")]
            return not handlers or b"vide" in handlers
    return True


def _places(data: bytes, word: bytes) -> Iterator[int]:
    at = -1
    while (at := data.find(word, at + 1)) >= 0:
        yield at


def _matroska_size(head: bytes) -> int | None:
    """Where the segment ends (RFC 8794); None where its size was left open, as for live recordings."""
    size, width = _vint(head, 4)
    at = 4 + width + (size or 0)
    if head[at : at + 4] != b"\x18S\x80g":
        return None
    segment, width = _vint(head, at + 4)
    return None if segment is None else at + 4 + width + segment


def _vint(data: bytes, at: int) -> tuple[int | None, int]:
    """A number of variable length and how many bytes it takes; None for "unknown"."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return None, 1
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), width
