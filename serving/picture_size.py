"""The size of a picture by its header, so that a small file that unpacks to gigabytes is refused before it does."""

from __future__ import annotations

from ..bundle.image_files import HEAD, image_kind

_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})  # JPEG's markers of a frame: SOF0 to SOF15


def picture_size(data: bytes) -> tuple[str, tuple[int, int] | None]:
    """The format (JPEG, PNG, WebP, BMP, another one, or "unknown") and (width, height); None where it is not told.

    Headers as in ITU-T T.81 (JPEG), the PNG specification, RFC 9649 (WebP) and Windows' BITMAPINFOHEADER.
    """
    kind = image_kind(data[:HEAD]) or "unknown"
    read = {"JPEG": _jpeg, "PNG": _png, "WebP": _webp, "BMP": _bmp}.get(kind)
    return kind, None if read is None else read(data)


def _jpeg(data: bytes) -> tuple[int, int] | None:
    largest: tuple[int, int] | None = None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # without a body
            at += 2
            continue
        if marker in (0xD9, 0xDA):
            break
        if marker in _FRAMES:
            size = int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
            largest = size if largest is None or size[0] * size[1] > largest[0] * largest[1] else largest
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return largest


def _png(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _webp(data: bytes) -> tuple[int, int] | None:
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    return None


def _bmp(data: bytes) -> tuple[int, int] | None:
    if len(data) < 26 or int.from_bytes(data[14:18], "little") < 40:
        return None
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    return abs(width), abs(height)  # a negative height: rows from the top
