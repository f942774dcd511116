"""How much work a sender may cause: a camera that floods must not take the processor from other cameras."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable

_READ = 4.0  # times the rate at which frames are taken from the sender at most; the rest of them are not decoded


@runtime_checkable
class Skipping(Protocol):
    """What a capture has besides that can pass a frame by for less than decoding it."""

    def skip(self) -> bool:
        """Wait for the next picture and leave it; False at the end."""
        ...


@runtime_checkable
class Grabbing(Protocol):
    """The same of `cv2.VideoCapture`."""

    def grab(self) -> bool:
        """Wait for the next picture and leave it; False at the end."""
        ...


class Pace:
    """Decodes at most `rate` frames a second on average, and reads at most some times as many; None: no limit.

    Deciding by the average and not by the distance of two frames lets a camera of that very rate pass as it is.
    """

    def __init__(self, rate: float | None) -> None:
        self._period = 0.0 if rate is None else 1 / rate
        self._decode_at = self._read_at = time.monotonic()

    def wait(self) -> bool:
        """Wait until the next frame may be read; whether it may be decoded."""
        now = time.monotonic()
        if self._read_at > now:
            time.sleep(self._read_at - now)
            now = time.monotonic()
        self._read_at = max(self._read_at, now - self._period) + self._period / _READ
        if now < self._decode_at - self._period:
            return False
        self._decode_at = max(self._decode_at, now) + self._period
        return True
