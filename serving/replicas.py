"""Who answers requests: Ray Serve's replicas (ray_replicas.py), or one worker in this process, for tests."""

from __future__ import annotations

import asyncio
from typing import Protocol

from .messages import SegmentAnswer, SegmentRequest
from .worker import AT_ONCE, SegmentWorker


class ReplicaLost(Exception):
    """The replica that worked on a request is gone; another one may answer it."""


class Replicas(Protocol):
    """Any number of workers, to each of which requests are given."""

    @property
    def count(self) -> int:
        """How many there are when all of them run."""
        ...

    async def segment(self, request: SegmentRequest) -> SegmentAnswer:
        """The answer of one of them. Raises `ReplicaLost`."""
        ...

    async def running(self) -> int:
        """How many of them can answer now."""
        ...


class LocalReplica:
    """One worker in threads of this process."""

    count = 1

    def __init__(self, worker: SegmentWorker) -> None:
        self._worker = worker
        self._room = asyncio.Semaphore(AT_ONCE)

    async def segment(self, request: SegmentRequest) -> SegmentAnswer:
        """See `Replicas`."""
        async with self._room:
            return await asyncio.to_thread(self._worker.segment, request)

    async def running(self) -> int:
        """See `Replicas`."""
        return 1
