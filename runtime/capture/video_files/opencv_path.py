"""File names that OpenCV and its FFmpeg take literally."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ....bundle.addresses import redact_address
from ....bundle.errors import SourceError


@contextmanager
def opencv_address(address: str) -> Iterator[str]:
    """The address as it is. Raises `SourceError` for bytes that are not UTF-8, on which OpenCV crashes."""
    try:
        address.encode()
    except UnicodeEncodeError as error:
        shown = redact_address(address)[:200]
        raise SourceError(f"{shown!r} has bytes that are not UTF-8; write them as %XX") from error
    yield address


@contextmanager
def opencv_path(path: Path | str) -> Iterator[str]:
    """A name under which OpenCV finds `path`, whatever characters that has.

    OpenCV crashes on bytes that are not UTF-8, takes `12:30.mp4` for a protocol and `%03d` for a series of files. An
    absolute path has no protocol; for the rest a link in a temporary folder stands in.
    """
    full = os.path.abspath(path)
    try:
        full.encode()
        plain = "%" not in full
    except UnicodeEncodeError:
        plain = False
    if plain:
        yield full
        return
    suffix = "".join(sign for sign in os.path.splitext(full)[1] if sign.isalnum() and sign.isascii())
    with tempfile.TemporaryDirectory(prefix="ovs-edge-") as folder:
        link = os.path.join(folder, f"video.{suffix}")
        os.symlink(full, link)
        yield link
