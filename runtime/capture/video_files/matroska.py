"""Elements of Matroska and WebM (RFC 9559, in EBML, RFC 8794): how long a file should be, and whether they follow on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

MAGIC = b"\x1aE\xdf\xa3"
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_PARTS = frozenset(
    (
        # of a segment: seek head, info, tracks, cues, attachments, chapters, tags
        *(0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367),
        # of a cluster: time stamp, silent tracks, position, previous size, blocks
        *(0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF),
        *(0xEC, 0xBF),  # of both: void, checksum
        *(_SEGMENT, _CLUSTER, 0x1A45DFA3),
    )
)


def stated_size(head: bytes) -> int | None:
    """Where the segment ends; None where its size was left open, as for live recordings."""
    size, width = _number(head, 4)
    at = 4 + width + (size or 0)
    if head[at : at + 4] != _SEGMENT.to_bytes(4, "big"):
        return None
    segment, width = _number(head, at + 4)
    return None if segment is None else at + 4 + width + segment


def is_broken(file: Path) -> bool:
    """Whether something in the file is no element that belongs there. False for other files, and those cut short."""
    try:
        with file.open("rb") as stream:
            return stream.read(4) == MAGIC and _breaks(stream)
    except OSError:
        return False


def _breaks(stream: BinaryIO) -> bool:
    end = os.fstat(stream.fileno()).st_size
    at = 0
    while at + 12 <= end:
        stream.seek(at)
        head = stream.read(12)
        name = 9 - head[0].bit_length()
        if name > 4 or int.from_bytes(head[:name], "big") not in _PARTS:
            return True
        size, width = _number(head, name)
        at += name + width
        if int.from_bytes(head[:name], "big") not in (_SEGMENT, _CLUSTER):  # whose own elements follow
            if size is None:
                return True
            at += size
    return False


def _number(data: bytes, at: int) -> tuple[int | None, int]:
    """A number of variable length and how many bytes it takes; None for "unknown"."""
    first = data[at] if at < len(data) else 0
    width = 9 - first.bit_length()
    if width > 8:
        return None, 1
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    return (None if value == (1 << 7 * width) - 1 else value), width
