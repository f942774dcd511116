"""PyAV, FFmpeg's libraries for Python: an extra, without which OpenCV reads and writes video files."""

from __future__ import annotations

from importlib import import_module
from typing import Any

HINT = "pip install 'ovs-edge[video]'"


def pyav() -> Any | None:
    """The module `av`, quiet, or None where it is not installed."""
    try:
        av = import_module("av")
    except ImportError:
        return None
    # What goes wrong is reported by this package, in one line each.
    av.logging.set_level(av.logging.PANIC)
    return av
