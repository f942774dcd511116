"""How much is taken on at once: requests that wait or are worked on, and bytes of their bodies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

_WEIGHT = 0.1  # of the latest answer in the mean time of one


class Overloaded(Exception):
    """There is no room for a request now."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the server is busy; try again in {retry_after} s")
        self.retry_after = retry_after  # seconds


class Admission:
    """Counts what is under way; for one event loop."""

    def __init__(self, replicas: int, at_once: int, queue: int, body_bytes: int) -> None:
        """`at_once` requests are worked on by each replica, `queue` more wait, with bodies of `body_bytes` in all."""
        self.limit = replicas * at_once + queue  # requests
        self.body_limit = body_bytes
        self.requests = 0  # that wait or are worked on
        self.body_bytes = 0  # of bodies that are being received, or belong to `requests`
        self._replicas = replicas
        self._mean = 0.0  # seconds of a replica's work on a request

    @contextmanager
    def body(self, size: int) -> Iterator[None]:
        """Room for a body of at most `size` bytes, while it is received and worked on. Raises `Overloaded`."""
        if self.requests >= self.limit or (self.body_bytes and self.body_bytes + size > self.body_limit):
            raise Overloaded(self.retry_after)
        self.body_bytes += size
        try:
            yield
        finally:
            self.body_bytes -= size

    @contextmanager
    def request(self) -> Iterator[None]:
        """Room for a request whose body is here. Raises `Overloaded`."""
        if self.requests >= self.limit:
            raise Overloaded(self.retry_after)
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def worked(self, seconds: float) -> None:
        """A replica has worked so long on a request."""
        self._mean = seconds if not self._mean else (1 - _WEIGHT) * self._mean + _WEIGHT * seconds

    @property
    def retry_after(self) -> int:
        """Seconds until half of what is under way will be done, at least 1."""
        return max(1, math.ceil(self._mean * self.requests / self._replicas / 2))
