"""A screen of this machine as a live source, by mss."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np

from ....bundle.errors import SourceError, UsageError, require
from ...opencv import cv2
from ..options import refuse_photo_options
from ..source import SourceRequest
from .live_source import LiveSource

SCREEN = "screen://"
_USUAL_RATE = 30.0


class _Screen:
    """A `Capture` of one monitor, or of all."""

    def __init__(self, monitor: int, rate: float) -> None:
        mss = require("mss", "screen")
        self._period = 1 / rate
        self._next = time.monotonic()
        try:
            self._grabber: Any = mss.MSS()
        except Exception as error:  # mss's own and the window system's
            raise SourceError(f"the screen cannot be read ({error}); set DISPLAY, or log in to an X session") from error
        monitors = self._grabber.monitors
        if monitor >= len(monitors):
            self.release()
            raise SourceError(f"there is no {SCREEN}{monitor}; expected 1 to {len(monitors) - 1}, or 0 for all")
        self._area = monitors[monitor]

    def read(self) -> tuple[bool, Any]:
        """The screen at its next time."""
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next + self._period, time.monotonic())
        shot = self._grabber.grab(self._area)
        return True, np.ascontiguousarray(np.asarray(shot)[..., :3])  # BGRA

    def get(self, prop: int) -> float:
        """The rate."""
        return 1 / self._period if prop == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        """Free the connection to the window system."""
        self._grabber.close()


def open_source(request: SourceRequest) -> LiveSource:
    """The first monitor ("screen://"), another ("screen://2"), or all as one picture ("screen://0")."""
    url, options = request.address, request.options
    refuse_photo_options(options)
    number = url[len(SCREEN) :] or "1"
    if not (number.isascii() and number.isdigit() and len(number) < 4):
        raise UsageError(f"the screen is {url[:80]!r}, expected {SCREEN} or a monitor's number: {SCREEN}1")
    if options.size is not None or options.mjpg:
        raise UsageError("a screen has its own size and no MJPG; leave out --size and --mjpg")
    opened = partial(_Screen, int(number), options.rate or _USUAL_RATE)
    return LiveSource(url, opened, flip=options.flip_code, reconnect=options.reconnect, most_fps=options.most_fps)
