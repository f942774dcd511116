"""A camera that offers single pictures at an http address: each is asked for anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from ....bundle.addresses import redact_address
from ....bundle.errors import UsageError
from ...opencv import cv2
from ..options import refuse_photo_options
from ..source import SourceRequest
from .live_source import LiveSource

_USUAL_RATE = 5.0  # pictures a second, which small cameras can serve

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR


class _Snapshots:
    """A `Capture` whose every picture is a request."""

    def __init__(self, fetch: Callable[[], Image], rate: float) -> None:
        self._fetch = fetch
        self._rate = rate
        self._next = time.monotonic()

    def read(self) -> tuple[bool, Image]:
        """The picture at its next time. Raises what `fetch` raises."""
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next + 1 / self._rate, time.monotonic())
        return True, self._fetch()

    def get(self, prop: int) -> float:
        """The rate."""
        return self._rate if prop == cv2.CAP_PROP_FPS else 0.0

    def release(self) -> None:
        """No connection is held open."""


def open_snapshots(request: SourceRequest, fetch: Callable[[], Image]) -> LiveSource:
    """The newest picture at the address; `--rate` says how often it is asked for."""
    options = request.options
    refuse_photo_options(options)
    if options.size is not None or options.mjpg:
        raise UsageError("the camera at an address decides the size of its pictures; leave out --size and --mjpg")
    opened = partial(_Snapshots, fetch, options.rate or _USUAL_RATE)
    name = redact_address(request.address)[:200]
    return LiveSource(name, opened, flip=options.flip_code, reconnect=options.reconnect, most_fps=options.most_fps)
