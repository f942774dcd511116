"""`ovs-serve` from its options to the end of the server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

from ..bundle.bundle import Bundle
from ..bundle.errors import UsageError, require
from ..models import default_bundle
from ..runtime.engines.engine import EngineOptions
from ..runtime.engines.registry import resolve
from ..runtime.segmenter import SegmenterOptions
from ..runtime.viewer.access import Guard, parse_address
from ..runtime.viewer.connections import bound_socket
from .options import MIB, ServeOptions
from .ray_replicas import ClusterOptions, ray_replicas
from .worker import WorkerOptions

_BODIES = 16  # largest bodies that are held at a time; smaller ones as many as fit into the same memory


def run_serve(options: ServeOptions) -> int:
    """Serve until a signal; returns the exit code. Raises `OvsError`, before anything is started where that can be."""
    require("ray", "ray")
    require("aiohttp", "ray")
    from .server import BODIES, SegmentServer, ServerLimits

    address = parse_address(options.address)
    guard = Guard(address, options.token, BODIES, options.allow_host)
    path = (options.model or default_bundle()).resolve()
    engine = EngineOptions(options.precision, options.threads_each, options.provider)
    bundle = Bundle.open(path)
    if options.ray is None:
        bundle.graph(resolve(bundle, engine)[1].precision)
    elif options.ray != "auto" and ":" not in options.ray:
        raise UsageError(f"--ray is {options.ray!r}, expected HOST:PORT or auto")
    segmenter = SegmenterOptions(options.background, options.threshold, sensitivity=options.sensitivity.value)
    worker = WorkerOptions(path, engine, segmenter, round(options.max_pixels * 1e6), round(options.cache * MIB))
    most = round(options.max_body * MIB)
    limits = ServerLimits(most, options.queue, _BODIES * most)
    cluster = ClusterOptions(options.replicas, float(options.threads_each), options.gpus, options.ray)
    with bound_socket(address, "ovs-serve", "--address {}") as listener:
        url = address.url(listener.getsockname()[1], guard.token)
        print(f"starting {options.replicas} replicas of {bundle.manifest.name}", flush=True)
        with ray_replicas(cluster, worker) as replicas:
            server = SegmentServer(listener, guard, replicas, limits)
            asyncio.run(_until_signal(server.run, lambda: print(f"serving at {url}", flush=True)))
    return 0


async def _until_signal(
    run: Callable[[asyncio.Event, Callable[[], None]], Awaitable[None]], on_ready: Callable[[], None]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await run(stop, on_ready)
