"""Latency of a class change: `ovs-run --web` in a process of its own, changed by an HTTP client.

Measured from just before the POST until a frame labelled with the new classes has arrived, over loopback.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...bundle.addresses import redact_address
from ...bundle.bundle import Bundle
from ...bundle.errors import SourceError, require

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = require("aiohttp", "web")

FIRST = "person,bike,car,dog,chair"
# A combination of the two is a name that no cache holds.
_KINDS = ("striped", "wooden", "broken", "tiny", "golden", "painted", "rusty", "folded", "floating", "paper", "glass")
_THINGS = (
    "kettle", "lantern", "violin", "anvil", "cactus", "canoe", "igloo", "jukebox", "marble", "windmill", "unicycle",
    "trumpet", "scarecrow", "hammock", "penguin", "quilt", "saxophone", "yurt", "nutcracker", "telescope", "wagon",
)  # fmt: skip
WARMUP = 20  # frames before the first change
PAUSE = 0.3  # seconds between two changes, so that the pipeline is in steady state
TIMEOUT = 60.0  # seconds for the run to begin, or for a change to be seen


@dataclass(frozen=True)
class Times:
    """Milliseconds over all changes."""

    median: float
    p95: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Times:
        """Of single times."""
        return cls(float(np.median(values)), float(np.percentile(values, 95)), max(values))


@dataclass(frozen=True)
class LiveResult:
    """One bundle on one machine."""

    bundle: str
    source: str
    changes: int  # to new names, and as many to known names; five names each
    new_names: Times  # POST to the first frame with them; names not in the cache
    known_names: Times  # the same for names in the cache
    model_ms: float  # median time in the network meanwhile
    fps: float  # median end-to-end rate meanwhile


def measure_live(
    path: Path,
    source: str,
    threads: int = 0,
    changes: int = 60,
    progress: Callable[[int, int], None] | None = None,
    deadline: float = math.inf,
) -> LiveResult:
    """Run `ovs-run` on `source` ("demo" or a clip, in a loop), and change its classes over HTTP.

    After `deadline`, by `time.monotonic`, no further change is made.
    """
    bundle = Bundle.open(path)
    with running(path, source, threads) as url:
        new, known, model, fps = asyncio.run(_watch(url, changes, progress, deadline))
    return LiveResult(
        bundle=bundle.manifest.name,
        source=Path(redact_address(source)).name,
        changes=len(new),
        new_names=Times.of(new),
        known_names=Times.of(known),
        model_ms=float(np.median(model)),
        fps=float(np.median(fps)),
    )


@contextmanager
def running(path: Path, source: str, threads: int, *further: str) -> Iterator[str]:
    """`ovs-run --web` on `source` in a process of its own, with `further` arguments; the address of its page.

    Raises `SourceError` where it ends before it is told to, or otherwise than it should.
    """
    with tempfile.TemporaryDirectory() as cache:
        command = [
            *(sys.executable, "-c", "from ovs_edge.runtime.cli import main; main()", "--model", str(path)),
            *("--source", source, "--classes", FIRST, "--web", "127.0.0.1:0", "--threads", str(threads), *further),
        ]
        run = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
            env={**os.environ, "XDG_CACHE_HOME": cache},
        )  # fmt: skip
        try:
            assert run.stderr is not None
            line = next((line for line in run.stderr if "http://" in line), "")
            if not line:
                raise SourceError(
                    f"ovs-run ended immediately with code {run.wait()}; run it by hand: --web --source {source}"
                )
            yield line[line.index("http://") :].strip()
        finally:
            said = _ended(run)
    if run.returncode:
        raise SourceError(f"ovs-run ended with code {run.returncode}, expected 0: {said[-200:]}")


def _ended(run: subprocess.Popen[str]) -> str:
    """What a run that is ended now wrote on stderr; raises `SourceError` for one that does not end."""
    run.terminate()  # a shell in the background has Ctrl-C ignored, also for this child
    try:
        return run.communicate(timeout=TIMEOUT)[1]
    except subprocess.TimeoutExpired as error:
        run.kill()
        run.communicate()
        raise SourceError(f"ovs-run did not end within {TIMEOUT:.0f} seconds of SIGTERM; run it by hand") from error


async def _watch(
    url: str, changes: int, progress: Callable[[int, int], None] | None, deadline: float
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Times of changes to new and to known names, times of the network, and frame rates."""
    draw = random.Random(0)
    names = [f"{kind} {thing}" for kind in _KINDS for thing in _THINGS]
    draw.shuffle(names)
    fresh = [names[start : start + 5] for start in range(0, len(names) - 4, 5)]
    new: list[float] = []
    known: list[float] = []
    headers: list[dict[str, Any]] = []
    async with aiohttp.ClientSession(url) as session, session.ws_connect("/live") as live:
        for number in range(-1, changes):  # the first one is the warm-up
            if new and time.monotonic() > deadline:
                break
            await asyncio.wait_for(receive(live, headers, lambda: len(headers) >= WARMUP), TIMEOUT)
            entries = fresh[(number + 1) % len(fresh)]
            if number >= len(fresh):  # all names are used up: a number makes them new
                entries = [f"{name} {number}" for name in entries]
            took = await asyncio.wait_for(_change(session, live, entries, headers), TIMEOUT)
            again = await asyncio.wait_for(_change(session, live, FIRST.split(","), headers), TIMEOUT)
            if number >= 0:
                new.append(took)
                known.append(again)
                if progress is not None:
                    progress(number + 1, changes)
    late = headers[WARMUP:]
    return new, known, [header["model"] for header in late], [header["fps"] for header in late if header["fps"]]


async def _change(
    session: aiohttp.ClientSession,
    live: aiohttp.ClientWebSocketResponse[Any],
    entries: list[str],
    headers: list[dict[str, Any]],
) -> float:
    """Milliseconds from a POST of `entries` to the first frame labelled with them."""
    settled = time.perf_counter() + PAUSE
    await receive(live, headers, lambda: time.perf_counter() >= settled)
    before = headers[-1]["version"]
    begun = time.perf_counter()
    posting = asyncio.ensure_future(session.post("/classes", json={"classes": entries}))
    await receive(live, headers, lambda: headers[-1]["version"] > before)
    took = (time.perf_counter() - begun) * 1e3
    (await posting).raise_for_status()
    return took


async def receive(
    live: aiohttp.ClientWebSocketResponse[Any], headers: list[dict[str, Any]], enough: Callable[[], bool]
) -> None:
    """Receive frames, as the page does, until `enough`."""
    while True:
        message = await live.receive()
        if message.type == aiohttp.WSMsgType.BINARY:
            await live.send_str("next")
            length = int.from_bytes(message.data[:4], "big")
            headers.append(json.loads(message.data[4 : 4 + length]))
            if enough():
                return
        elif message.type != aiohttp.WSMsgType.TEXT:
            raise SourceError("ovs-run ended while it was measured; run it by hand to see why")
