"""File names that OpenCV and its FFmpeg take literally."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
