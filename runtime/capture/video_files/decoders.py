"""Which decoder reads a video: PyAV if it is installed, else OpenCV."""

from __future__ import annotations

from .decoder import VideoDecoder
from .opencv_decoder import OpencvDecoder
from .pyav import pyav
from .pyav_decoder import PyavDecoder


def open_decoder(place: str) -> VideoDecoder:
    """Open a file, a pipe's path, an http address, or "-" for standard input. Raises `SourceError`."""
    av = pyav()
    if av is not None:
        return PyavDecoder(av, place)
    return OpencvDecoder(place)
