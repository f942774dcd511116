"""Latency of a class that is shown by a click, and what it costs while nothing is shown.

`ovs-run --web` runs in a process of its own; a client posts a point of the latest frame to /examples. Measured from just
before the POST until a frame labelled with the new class has arrived, over loopback. The numbers and versions of all
frames that arrive meanwhile tell whether one is missing, or labelled with older classes than the one before.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from ...bundle.addresses import redact_address
from ...bundle.bundle import Bundle
from ...bundle.errors import require
from ...runtime.segmenter import Segmenter
from .class_change import FIRST, PAUSE, TIMEOUT, WARMUP, Times, receive, running

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = require("aiohttp", "web")

_FRAMES = 400  # of each side of the comparison of frames with and without the session that reads examples


@dataclass(frozen=True)
class ClickResult:
    """One bundle on one machine."""

    bundle: str
    source: str
    clicks: int
    seen: Times  # POST to the first frame labelled with the class, shown in the latest frame
    answered: Times  # the same POST to its answer
    seen_frozen: Times  # shown in a frozen frame whose region was proposed before, as the page does it
    model_ms: float  # median time in the network meanwhile
    fps: float  # median end-to-end rate meanwhile
    frames: int  # that arrived on the page meanwhile
    lost: int  # frames of the source that were not shown
    mixed: int  # frames that are labelled with older classes than the frame before
    idle_cost: (
        float  # time of a frame once examples can be read, over that before; medians of interleaved frames, less 1
    )


def measure_clicks(
    path: Path, source: str, threads: int, clicks: int, progress: Callable[[int, int], None] | None = None
) -> ClickResult:
    """Run `ovs-run` on `source` ("demo" or a clip, in a loop), and show it classes over HTTP."""
    bundle = Bundle.open(path)
    with running(path, source, threads, "--precision", "auto") as url:
        seen, answered, frozen, headers = asyncio.run(_click(url, clicks, progress))
    return ClickResult(
        bundle=bundle.manifest.name,
        source=Path(redact_address(source)).name,
        clicks=len(seen),
        seen=Times.of(seen),
        answered=Times.of(answered),
        seen_frozen=Times.of(frozen),
        model_ms=float(median(header["model"] for header in headers)),
        fps=float(median(header["fps"] for header in headers if header["fps"])),
        frames=len(headers),
        lost=_gone(headers),
        mixed=int((np.diff([header["version"] for header in headers]) < 0).sum()),
        idle_cost=_idle_cost(path, threads),
    )


def _gone(headers: list[dict[str, Any]]) -> int:
    """Frames of the source that the run did not show, whether or not they were sent to this client."""
    steps = np.diff([header["index"] for header in headers]) - np.diff([header["number"] for header in headers])
    return int(np.abs(steps).sum())


async def _click(
    url: str, clicks: int, progress: Callable[[int, int], None] | None
) -> tuple[list[float], list[float], list[float], list[dict[str, Any]]]:
    """Times until a class was seen and its request answered; those of frozen frames; the headers of all frames meanwhile."""
    draw = random.Random(0)
    headers: list[dict[str, Any]] = []
    seen: list[float] = []
    answered: list[float] = []
    frozen: list[float] = []
    async with aiohttp.ClientSession(url) as session, session.ws_connect("/live") as live:
        await asyncio.wait_for(receive(live, headers, lambda: len(headers) >= WARMUP), TIMEOUT)
        for number in range(-1, clicks):  # the first one is the warm-up
            body = {"name": f"thing {number % 5}", "point": [draw.uniform(0.1, 0.9), draw.uniform(0.1, 0.9)]}
            kept = (await _post(session, "/freeze", {}))["frame"]
            await _post(session, "/examples", {"point": body["point"], "frame": kept, "propose": True})
            on_page, _ = await asyncio.wait_for(_show(session, live, {**body, "frame": kept}, headers), TIMEOUT)
            took, done = await asyncio.wait_for(_show(session, live, body, headers), TIMEOUT)
            if number >= 0:
                seen.append(took)
                answered.append(done)
                frozen.append(on_page)
                if progress is not None:
                    progress(number + 1, clicks)
            if number % 10 == 9:  # a handful of examples of a few classes, as people have
                await _post(session, "/classes", {"classes": FIRST.split(",")})
    return seen, answered, frozen, headers[WARMUP:]


async def _show(
    session: aiohttp.ClientSession,
    live: aiohttp.ClientWebSocketResponse[Any],
    body: dict[str, Any],
    headers: list[dict[str, Any]],
) -> tuple[float, float]:
    """Milliseconds from a POST of `body` to the first frame with its class, and to the answer."""
    settled = time.perf_counter() + PAUSE
    await receive(live, headers, lambda: time.perf_counter() >= settled)
    before = headers[-1]["version"]
    begun = time.perf_counter()

    async def answered() -> float:
        await _post(session, "/examples", body)
        return (time.perf_counter() - begun) * 1e3

    posting = asyncio.ensure_future(answered())
    await receive(live, headers, lambda: headers[-1]["version"] > before)
    took = (time.perf_counter() - begun) * 1e3
    return took, await posting


async def _post(session: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with session.post(path, json=body) as answer:
        answer.raise_for_status()
        found: dict[str, Any] = await answer.json()
        return found


def _idle_cost(path: Path, threads: int) -> float:
    """How much longer a frame takes once examples can be read, while none is, as a share."""
    picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    times: tuple[list[float], list[float]] = ([], [])
    with Segmenter.load(path, "auto", threads) as before, Segmenter.load(path, "auto", threads) as after:
        for segmenter in (before, after):
            segmenter.set_classes(FIRST)
        after.regions.open()
        for number in range(2 * _FRAMES + 20):
            side = number % 2
            begun = time.perf_counter()
            (before, after)[side].predict(picture)
            if number >= 20:
                times[side].append(time.perf_counter() - begun)
    return median(times[1]) / median(times[0]) - 1
