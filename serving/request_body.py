"""A POST /segment as a `SegmentRequest`: the picture as the body, or a form with fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bundle.errors import UsageError, require
from .messages import MOST_CLASSES_TEXT, AnswerFormat, SegmentRequest, parse_class_list

if TYPE_CHECKING:
    import aiohttp
    from aiohttp import web
else:
    aiohttp = require("aiohttp", "ray")

_CHUNK = 64 * 1024
_FIELDS = ("image", "classes", "format")


class ReceivedTooMuch(Exception):
    """A body is larger than allowed."""


async def read_request(request: web.Request, most: int) -> SegmentRequest:
    """Read a body of at most `most` bytes, unpacked. Raises `ReceivedTooMuch`, and `UsageError` for what is no request.

    `classes` and `format` stand in the address or in the form; what the form says counts.
    """
    fields = {name: request.query[name].encode() for name in _FIELDS[1:] if name in request.query}
    if request.content_type == "multipart/form-data":
        fields |= await _form(request, most)
    else:
        fields["image"] = await _body(request, most)
    if not fields.get("image"):
        raise UsageError("there is no picture; send it as the body, or as the field 'image' of a form")
    if "classes" not in fields:
        raise UsageError("there are no classes; add ?classes=person,bike|bicycle to the address, or a field of a form")
    return SegmentRequest(
        fields["image"], parse_class_list(_text(fields["classes"], "classes")), _format(fields.get("format", b"png"))
    )


async def _body(request: web.Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_chunked(_CHUNK):
        body += chunk
        if len(body) > most:
            raise ReceivedTooMuch
    return bytes(body)


async def _form(request: web.Request, most: int) -> dict[str, bytes]:
    try:
        return await _parts(await request.multipart(), most)
    except (
        ValueError,
        AssertionError,
        RuntimeError,
        LookupError,
        aiohttp.http_exceptions.HttpProcessingError,
    ) as error:
        raise UsageError("the form is damaged; send multipart/form-data with the fields image and classes") from error


async def _parts(reader: aiohttp.MultipartReader, most: int) -> dict[str, bytes]:
    fields: dict[str, bytes] = {}
    left = most
    while (part := await reader.next()) is not None:
        name = None if isinstance(part, aiohttp.MultipartReader) else part.name
        if name not in _FIELDS or name in fields or isinstance(part, aiohttp.MultipartReader):
            again = "twice" if name in fields else "which is not known"
            raise UsageError(f"the form has the field {str(name)[:40]!r} {again}; expected image, classes and format")
        data = bytearray()
        while chunk := await part.read_chunk(_CHUNK):
            data += chunk
            if len(data) > (left if name == "image" else min(left, 4 * MOST_CLASSES_TEXT)):
                raise ReceivedTooMuch
        left -= len(data)
        fields[name] = bytes(data)
    return fields


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 ({error.reason})") from error


def _format(value: bytes) -> AnswerFormat:
    text = _text(value, "format")
    try:
        return AnswerFormat(text)
    except ValueError as error:
        known = " or ".join(entry.value for entry in AnswerFormat)
        raise UsageError(f"the format is {text[:40]!r}, expected {known}") from error
