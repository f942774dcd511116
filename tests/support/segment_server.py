"""`ovs-serve` without Ray: its server in this event loop, with one worker in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np

from ovs_edge.runtime.engines.engine import EngineOptions
from ovs_edge.runtime.segmenter import SegmenterOptions
from ovs_edge.runtime.viewer.access import Guard, parse_address
from ovs_edge.runtime.viewer.connections import bound_socket
from ovs_edge.serving.messages import SegmentAnswer, SegmentRequest
from ovs_edge.serving.server import BODIES, SegmentServer, ServerLimits
from ovs_edge.serving.worker import AT_ONCE, SegmentWorker, WorkerOptions


class LocalReplica:
    """One worker in threads of this process."""

    count = 1

    def __init__(self, worker: SegmentWorker) -> None:
        self._worker = worker
        self._room = asyncio.Semaphore(AT_ONCE)

    async def segment(self, request: SegmentRequest) -> SegmentAnswer:
        async with self._room:
            return await asyncio.to_thread(self._worker.segment, request)

    async def running(self) -> int:
        return 1


LIMITS = ServerLimits(body=200_000, queue=2, bodies=1_000_000)


def picture() -> bytes:
    """Red, green and blue stripes."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :20, 2] = image[:, 20:40, 1] = image[:, 40:, 0] = 255
    return bytes(cv2.imencode(".png", image)[1].tobytes())


PICTURE = picture()


def made_worker(bundle: Path, most_pixels: int = 10_000) -> SegmentWorker:
    return SegmentWorker(WorkerOptions(bundle, EngineOptions(threads=1), SegmenterOptions(), most_pixels, 2**20))


@asynccontextmanager
async def serving(replicas: Any, token: str | None = None, limits: ServerLimits = LIMITS) -> AsyncIterator[Any]:
    address = parse_address("127.0.0.1:0")
    with bound_socket(address) as listener:
        server = SegmentServer(listener, Guard(address, token, BODIES), replicas, limits)
        stop, ready = asyncio.Event(), asyncio.Event()
        running = asyncio.ensure_future(server.run(stop, ready.set))
        await ready.wait()
        jar = aiohttp.CookieJar(unsafe=True)  # cookies of addresses, too
        async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.getsockname()[1]}", cookie_jar=jar) as session:
            try:
                yield session
            finally:
                stop.set()
                await running
        assert (server.admission.requests, server.admission.body_bytes) == (0, 0)
