"""What is behind an http address: a photo, a video file, or a live stream."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ...bundle.addresses import redact_address
from ...bundle.errors import SourceError
from ...bundle.image_files import IMAGE_SUFFIXES
from .live import streams
from .live.snapshots import open_snapshots
from .names import safe_name
from .options import refuse_live_options
from .photo_source import PhotoSource
from .photos import Image, decode_photo
from .source import Source, SourceRequest
from .video_files.video_source import open_source as open_video

_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
_STREAM_SUFFIXES = (".m3u8", ".mpd", ".mjpg", ".mjpeg", ".cgi")
_PATIENCE = 10.0  # seconds that a server may send nothing
_LARGEST = 256 * 2**20  # bytes of a photo


def open_source(request: SourceRequest) -> Source:
    """As a source, a photo or video file, which has an end; as a camera, or if it is neither, a live stream."""
    suffix = os.path.splitext(urlsplit(request.address).path)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return open_snapshots(request, partial(_photo_at, request.address)) if request.live else _open_photo(request)
    if request.live:
        return streams.open_source(request)
    if suffix in _VIDEO_SUFFIXES:
        return open_video(request)
    if suffix in _STREAM_SUFFIXES:
        return streams.open_source(request)
    kind, length = _described(request.address)
    if kind.startswith("image/"):
        return _open_photo(request)
    if kind.startswith("video/") and length:
        return open_video(request)
    return streams.open_source(request)


def _open_photo(request: SourceRequest) -> PhotoSource:
    address = request.address
    shown = redact_address(address)

    def read(place: Path, warn: Callable[[str], None]) -> Image:
        return _photo_at(address, warn)

    refuse_live_options(request.options)
    stem = os.path.basename(unquote(urlsplit(shown).path))
    source = PhotoSource([Path(safe_name(stem or "photo"))], shown, request.options.fps or 1.0, request.warn, read)
    source.files = ()
    return source


def _photo_at(address: str, warn: Callable[[str], None] | None = None) -> Image:
    return decode_photo(_downloaded(address), redact_address(address), warn)


def _described(address: str) -> tuple[str, bool]:
    """Content type and whether there is a length, as the server says; ("", False) where it does not answer so."""
    try:
        with closing(_opened(address)) as reply:
            return reply.headers.get_content_type(), reply.headers.get("Content-Length") is not None
    except TimeoutError as error:
        raise _silent(address) from error
    except urllib.error.HTTPError as error:
        error.close()
        return "", False  # FFmpeg may know better, and says what is wrong
    except (OSError, HTTPException, ValueError):
        return "", False


def _downloaded(address: str) -> bytes:
    shown = redact_address(address)
    try:
        with closing(_opened(address)) as reply:
            data: bytes = reply.read(_LARGEST + 1)
            promised = reply.headers.get("Content-Length", "")
    except TimeoutError as error:
        raise _silent(address) from error
    except urllib.error.HTTPError as error:
        error.close()
        raise SourceError(f"{shown} cannot be read (HTTP {error.code} {error.reason}); check the address") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise SourceError(f"{shown} cannot be read ({reason}); check the address and that the server runs") from error
    if len(data) > _LARGEST:
        raise SourceError(f"{shown} is larger than {_LARGEST >> 20} MiB; expected a photo")
    if promised.isascii() and promised.isdigit() and len(promised) < 19 and len(data) < int(promised):
        raise SourceError(f"{shown} breaks off after {len(data)} of {promised} bytes; try again")
    return data


def _opened(address: str) -> Any:
    """The server's reply. User and password go into the headers that HTTP has for them, if the server asks."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    plain = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username is not None:
        passwords.add_password(None, plain, unquote(parts.username), unquote(parts.password or ""))
    opener = urllib.request.build_opener(
        urllib.request.HTTPDigestAuthHandler(passwords), urllib.request.HTTPBasicAuthHandler(passwords)
    )
    return opener.open(re.sub(r"\s", "%20", plain), timeout=_PATIENCE)


def _silent(address: str) -> SourceError:
    return SourceError(
        f"{redact_address(address)} accepts the connection and sends nothing for {_PATIENCE:g} s; check that the "
        "server runs"
    )
