"""What a damaged video lost without a decoder saying so: frames with errors, and frames that are not there."""

from __future__ import annotations

from collections import deque

_REACH = 40  # frames between the place of a fault in a file and the frame that leaves the decoder meanwhile
_LONGEST = 10.0  # seconds: beyond, another recording begins
_CONSTANT = 0.8  # share of frames one step apart, from which on a rate is constant


class Losses:
    """Counts them as the frames come.

    A gap in time stamps alone is no loss: recordings pause, and rates vary. One beside a fault in the file is.
    """

    def __init__(self, fps: float) -> None:
        """`fps` is the rate of frames whose duration the container does not tell."""
        self.damaged = 0  # frames that came with errors
        self._step = 1 / fps
        self._missing = self._unexplained = 0
        self._count = 0
        self._steady = 0
        self._last: float | None = None
        self._faults: deque[int] = deque(maxlen=_REACH)
        self._gaps: deque[tuple[int, int]] = deque(maxlen=_REACH)  # after how many frames, and how many are missing

    @property
    def missing(self) -> int:
        """Frames that are not there, those that did not decode among them; 0 where the rate tells nothing."""
        return self._missing if self.constant else 0

    @property
    def unexplained(self) -> int:
        """Frames that fit into the gaps without a fault beside them."""
        return self._unexplained if self.constant else 0

    @property
    def constant(self) -> bool:
        """Whether the frames came at a constant rate."""
        return self._steady >= _CONSTANT * (self._count - 1)

    def fault(self) -> None:
        """A packet was damaged, or did not decode."""
        self._faults.append(self._count)
        while self._gaps:
            at, lost = self._gaps.pop()
            if self._count - at <= 1:
                self._missing += lost
                self._unexplained -= lost

    def frame(self, time: float, duration: float, *, corrupt: bool) -> None:
        """A frame came, `duration` seconds long, or 0 where that is not known."""
        if self._last is not None:
            gap = time - self._last
            lost = round(gap / self._step) - 1
            self._steady += lost == 0
            if lost > 0 and gap <= _LONGEST:
                if self._faults and self._count - self._faults[-1] <= _REACH:
                    self._missing += lost
                else:
                    self._gaps.append((self._count, lost))
                    self._unexplained += lost
        self._count += 1
        self._last = time
        self._step = duration or self._step
        if corrupt:
            self.damaged += 1
            self.fault()
