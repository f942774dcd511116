"""Whether a video file is all there: from the sizes that it states itself, whatever a decoder makes of it."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ....bundle.image_files import HEAD
from . import matroska

_BEGINS = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof", b"pnot", b"uuid"))
_BOXES = _BEGINS | {b"sidx", b"ssix", b"mfra", b"meta", b"emsg", b"prft", b"pdin", b"udta", b"meco"}
_HEADER = 64 * 2**10  # bytes in which a header states its sizes


def cut_short(file: Path) -> str | None:
    """How much of a video file is missing, for messages; None where it is complete or that is not known."""
    try:
        there = file.stat().st_size
        with file.open("rb") as stream:
            stated = _stated_size(stream)
            if stated is None and _ends_in_a_gif_block(stream):
                return "its last picture is not whole"
    except OSError:
        return None
    return f"{there:,} of {stated:,} bytes are there" if stated is not None and stated > there else None


def lost_track_at(file: Path) -> int | None:
    """The byte of an MP4 or MOV at which something stands that is no box and has a size beyond the file's end."""
    try:
        end = file.stat().st_size
        with file.open("rb") as stream:
            found = list(boxes(stream))
    except OSError:
        return None
    return next((at for kind, at, size in found if at + size > end and kind not in _BOXES), None)


def boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and size of the boxes of MP4 and MOV (ISO 14496-12), the last one perhaps beyond the file's end.

    Nothing for other files.
    """
    end = os.fstat(stream.fileno()).st_size
    at = 0
    while at + 8 <= end:
        stream.seek(at)
        head = stream.read(16)
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if at == 0 and kind not in _BEGINS:
            return
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        elif size == 0:  # up to the end
            size = end - at
        if size < 8:
            return
        yield kind, at, size
        at += size


def _stated_size(stream: BinaryIO) -> int | None:
    head = stream.read(HEAD)
    if head[4:8] in _BEGINS:
        return max((at + size for kind, at, size in boxes(stream) if kind in _BOXES), default=None)
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        return size + 8 if size else None  # 0: its writer was killed
    if head[:4] == matroska.MAGIC:
        return matroska.stated_size(head)
    stream.seek(0)
    header = stream.read(_HEADER)
    if head[:16] == _ASF_HEADER:
        return _asf_size(header)
    if head[:3] == b"FLV":
        return _flv_size(header)
    if head[:10] == b"YUV4MPEG2 ":
        return _y4m_size(stream, header)
    return None


# WMV: object names of ASF (specification 01.20.03, sections 3.1 and 3.2).
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def _asf_size(header: bytes) -> int | None:
    at = header.find(_ASF_PROPERTIES)
    if at < 0 or len(header) < at + 92:
        return None
    size, flags = struct.unpack_from("<Q", header, at + 40)[0], header[at + 88]
    return int(size) if size and not flags & 1 else None  # 1: a broadcast, whose sizes are not known


def _flv_size(header: bytes) -> int | None:
    """What many writers put into the metadata: a name with its length before it, and a number (AMF0)."""
    at = header.find(b"\0\x08filesize\0")
    if at < 0 or len(header) < at + 19:
        return None
    size = struct.unpack_from(">d", header, at + 11)[0]
    return int(size) if 0 < size < 2**53 else None


def _y4m_size(stream: BinaryIO, header: bytes) -> int | None:
    """Where the last frame ends, of which all have one size."""
    line = header.partition(b"\n")[0]
    width, height = re.search(rb" W(\d+)", line), re.search(rb" H(\d+)", line)
    colour = re.search(rb" C(\w+)", line)
    if width is None or height is None:
        return None
    across, down = int(width[1]), int(height[1])
    kind = colour[1] if colour is not None else b"420"
    half, depth = (across + 1) // 2, 2 if re.search(rb"p1\d$|mono1\d$", kind) else 1
    chroma = {b"420": 2 * half * ((down + 1) // 2), b"422": 2 * half * down, b"444": 2 * across * down, b"mon": 0}
    if kind[:3] not in chroma or kind == b"444alpha":
        return None
    frame = depth * (across * down + chroma[kind[:3]])
    end, at = os.fstat(stream.fileno()).st_size, len(line) + 1
    while at < end:
        stream.seek(at)
        title = stream.readline(256)
        if not title.startswith(b"FRAME") and not b"FRAME".startswith(title):
            return None
        at += len(title) + frame
    return at


def _ends_in_a_gif_block(stream: BinaryIO) -> bool:
    """Whether the file is a GIF that ends within a block. A missing trailer is no loss."""
    stream.seek(0)
    head = stream.read(13)
    if head[:4] != b"GIF8" or len(head) < 13:
        return False
    stream.seek(_table(head[10]), os.SEEK_CUR)
    while kind := stream.read(1):
        if kind == b",":  # a picture
            about = stream.read(9)
            if len(about) < 9:
                return True
            stream.seek(_table(about[8]) + 1, os.SEEK_CUR)
        elif kind == b"!":
            stream.seek(1, os.SEEK_CUR)
        else:
            return False
        while (length := stream.read(1)) != b"\0":
            if not length or len(stream.read(length[0])) < length[0]:
                return True
    return False


def _table(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
