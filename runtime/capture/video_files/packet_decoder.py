"""Decodes the packets of a video track on several threads, without losing the last frames to an error there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

_IN_FLIGHT = 48  # packets that may be in the decoder: its threads and the frames that it reorders
_BEFORE = -(2**63)  # any time stamp
_MOST_BYTES = 64 * 2**20  # of packets that are kept


class PacketDecoder:
    """Frames of packets. Those that do not decode are counted.

    Threads report an error some packets later. Where that is at the end, nothing more comes out of the decoder, often
    without a word; so the last packets are kept, from a key frame on, to decode them once more, one after the other.
    """

    def __init__(self, av: Any, context: Any, again: Callable[[], Any | None]) -> None:
        """`context` is a codec's; `again` gives a fresh one of the same track, or None where there is none."""
        self.skipped = 0
        self._av = av
        self._context = context
        self._again = again
        self._kept: deque[Any] = deque()
        self._bytes = 0
        self._keys: deque[int] = deque()  # which of all packets are key frames, of those kept
        self._errors: deque[int] = deque()
        self._sent = 0
        self._last: int | None = None  # time stamp of the last frame
        self._newest = self._reached = _BEFORE  # greatest time stamp of the packets, and of the frames

    def decode(self, packet: Any) -> Iterator[Any]:
        """The frames that leave the decoder as `packet` goes in; an empty one is the end."""
        if packet.size:
            self._keep(packet)
        try:
            frames: list[Any] = self._context.decode(packet)
        except self._av.error.EOFError:
            frames = []
        except self._av.error.FFmpegError:
            self.skipped += 1
            self._errors.append(self._sent)
            frames = []
        for frame in frames:
            self._last = frame.pts
            if frame.pts is not None:
                self._reached = max(self._reached, frame.pts)
            yield frame
        if not packet.size and self._reached < self._newest:
            yield from self._last_ones()

    def _keep(self, packet: Any) -> None:
        if packet.is_keyframe:
            self._keys.append(self._sent)
        if packet.pts is not None and not packet.is_discard:
            self._newest = max(self._newest, packet.pts)
        self._sent += 1
        self._kept.append(packet)
        self._bytes += packet.size
        while len(self._keys) > 1 and (self._sent - self._keys[1] >= _IN_FLIGHT or self._bytes > _MOST_BYTES):
            self._keys.popleft()
            self._drop_until(self._keys[0])
        if self._bytes > _MOST_BYTES:
            self._keys.clear()
            self._drop_until(self._sent)

    def _drop_until(self, number: int) -> None:
        while self._sent - len(self._kept) < number:
            self._bytes -= self._kept.popleft().size

    def _last_ones(self) -> Iterator[Any]:
        context = self._again() if self._kept and self._keys else None
        if context is None:
            return
        # The errors among these packets come again.
        first = self._sent - len(self._kept)
        self.skipped -= sum(number > first for number in self._errors)
        new = self._last is None
        failed = 0
        for packet in (*self._kept, self._av.Packet()):
            try:
                frames = context.decode(packet)
            except self._av.error.EOFError:
                continue
            except self._av.error.FFmpegError:
                failed += bool(packet.size)
                continue
            for frame in frames:
                if new:
                    self._reached = max(self._reached, _BEFORE if frame.pts is None else frame.pts)
                    yield frame
                new = new or frame.pts == self._last
        # The last one may be left out without an error, as MPEG-2 does with half a frame.
        left = sum(
            packet.pts is not None and packet.pts > self._reached for packet in self._kept if not packet.is_discard
        )
        self.skipped += max(failed, left)
