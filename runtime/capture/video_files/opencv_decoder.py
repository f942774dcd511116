"""Videos decoded by OpenCV: where PyAV is not installed, and in hardware on a Jetson."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from ....bundle.addresses import redact_address, scheme_of
from ....bundle.errors import SourceError
from ...opencv import cv2
from ..source import Sound
from .decoder import STDIN, Image
from .failures import CONVERT, why_unreadable
from .opencv_path import opencv_address, opencv_path

_LIKELY_FPS = (0.01, 1000.0)  # what lies outside is a container without a rate
_USUAL_FPS = 25.0
_PATIENCE = 15_000  # milliseconds that a server may send nothing
_GIVE_UP = 300  # frames in a row that do not decode, after which no further one is tried


class OpencvDecoder:
    """A `VideoDecoder`. It sees no sound track, and frames of another size than the first are scaled to that."""

    sound: Sound | None = None
    broken: str | None = None
    damaged = missing = 0  # it does not tell

    def __init__(self, place: str) -> None:
        self.skipped = 0
        web = scheme_of(place) is not None
        shown = "standard input" if place == STDIN else redact_address(place)
        file = None if web or place == STDIN else place
        self._closing = ExitStack()
        try:
            if file is not None and os.path.isfile(file) and not os.path.getsize(file):
                raise SourceError(why_unreadable(shown, file, place))
            found = opencv_address(place if web else "pipe:0") if file is None else opencv_path(file)
            name = self._closing.enter_context(found)
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _PATIENCE, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _PATIENCE]
            self._capture = (
                cv2.VideoCapture(name, cv2.CAP_FFMPEG, limits) if web else cv2.VideoCapture(name, cv2.CAP_ANY)
            )
            self._closing.callback(self._capture.release)
            codec = _fourcc(self._capture)
            self._next = self._grab()
            if self._next is None:
                if self._capture.isOpened() and codec:
                    raise SourceError(f"{shown}: its codec {codec} has no decoder in this OpenCV; {CONVERT}")
                raise SourceError(why_unreadable(shown, file, place))
        except BaseException:
            self._closing.close()
            raise
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if _LIKELY_FPS[0] <= fps <= _LIKELY_FPS[1] else _USUAL_FPS
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.total = self.promised = count if 0 < count < 10**9 else None
        self._had = 1

    def read(self) -> tuple[Image, float] | None:
        """The next frame that decodes and its time."""
        found, self._next = self._next, None
        if found is None:
            return None
        self._next = self._grab()
        failed = 0
        # At a frame that does not decode OpenCV says the same as at the end; the index tells which it is.
        left = (self.promised or 0) - self._had - self.skipped
        while self._next is None and failed < min(left, _GIVE_UP):
            failed += 1
            self._next = self._grab()
        if self._next is not None:
            self.skipped += failed
            self._had += 1
        return found

    def close(self) -> None:
        """Free the decoder."""
        self._closing.close()

    def _grab(self) -> tuple[Image, float] | None:
        read, image = self._capture.read()
        if not read or image is None:
            return None
        return image, float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000


def _fourcc(capture: Any) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    return "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)).strip("\0 ") if code > 0 else ""
