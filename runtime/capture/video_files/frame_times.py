"""When each decoded frame is shown, also in containers that only know the order in which frames are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

FIRST_PACKETS = 32  # looked at to tell what the time stamps are; H.264 and HEVC reorder at most 16 frames


def rise(packets: Sequence[Any]) -> bool:
    """Whether the time stamps of packets only rise.

    Of a codec with B-frames those of presentation do not. AVI has stamps of decoding alone, which do, and what was
    copied out of an AVI keeps them.
    """
    known = [packet.pts for packet in packets if packet.size and packet.pts is not None]
    return known == sorted(set(known))


class FrameTimes:
    """The time of each frame as it leaves the decoder, in seconds on the file's clock."""

    def __init__(self, fps: float, *, decoding: bool) -> None:
        """`decoding`: the stamps say when frames are decoded, not when they are shown.

        `fps` is the rate of frames without a stamp.
        """
        self._step = 1 / fps
        self._decoding = decoding
        self._last = -self._step
        # Frames leave in the order in which they are shown, so each takes the earliest stamp that is still free.
        self._free: list[float] = []
        self._keys: dict[int, float] = {}

    def sent(self, packet: Any) -> None:
        """A packet goes to the decoder."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if not self._decoding or not packet.size or stamp is None:
            return
        heappush(self._free, float(stamp * packet.time_base))
        if packet.is_keyframe and packet.pts is not None:
            self._keys[packet.pts] = float(stamp * packet.time_base)

    def of(self, frame: Any) -> float:
        """The time of the next frame."""
        if self._decoding:
            # Whatever was decoded before a key frame is shown before it: what is left of that was lost.
            key = self._keys.pop(frame.pts, None) if frame.pts is not None else None
            while key is not None and self._free and self._free[0] < key:
                heappop(self._free)
            self._last = heappop(self._free) if self._free else self._last + self._step
        else:
            self._last = float(frame.time) if frame.time is not None else self._last + self._step
        return self._last
