"""Replicas by Ray Serve: it starts them, on this machine or on those of a cluster, and starts a lost one again.

Requests do not come through Ray's own HTTP proxy, which reads a body of any size before a replica sees it and asks
nobody for a token, but through server.py and a deployment handle.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..bundle.errors import BundleError, UsageError, require
from ..runtime.threads.ray_usage import without_metadata_requests
from .messages import ReplicaLost, SegmentAnswer, SegmentRequest
from .worker import AT_ONCE, SegmentWorker, WorkerOptions

_STORE = 256 * 2**20  # bytes of shared memory for pictures on their way to the replicas
_STATE_AGE = 1.0  # seconds that the number of running replicas is believed
_STARTS = 4  # attempts to start a cluster
_HEALTH = 5.0  # seconds between two looks of Ray at a replica


@dataclass(frozen=True)
class ClusterOptions:
    """How many replicas, and where."""

    replicas: int
    cpus: float  # that each of them is counted with
    gpus: float = 0.0  # the same
    address: str | None = None  # of a running cluster; None: one of this machine's own, for as long as we run


class _Replica:
    """What Ray runs. Its methods must not block the event loop in which Ray looks after the replica."""

    def __init__(self, options: WorkerOptions) -> None:
        self._worker = SegmentWorker(options)
        self._pool = ThreadPoolExecutor(AT_ONCE)

    async def segment(self, request: SegmentRequest) -> SegmentAnswer:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._worker.segment, request)


class RayReplicas:
    """See `Replicas`."""

    def __init__(self, handle: Any, application: str, count: int) -> None:
        self.count = count
        self._application = application
        self._handle = handle
        self._lost: tuple[type[Exception], ...] = (require("ray", "ray").exceptions.RayError,)
        self._running = count
        self._asked = time.monotonic()
        self._asking = asyncio.Lock()

    async def segment(self, request: SegmentRequest) -> SegmentAnswer:
        """See `Replicas`. A task that is cancelled cancels the request that waits for a replica."""
        response = self._handle.segment.remote(request)
        try:
            answer: SegmentAnswer = await response
        except self._lost as error:
            raise ReplicaLost(type(error).__name__) from error
        except asyncio.CancelledError:
            response.cancel()
            raise
        return answer

    async def running(self) -> int:
        """See `Replicas`; at most a second old."""
        async with self._asking:
            if time.monotonic() - self._asked > _STATE_AGE:
                self._running = await asyncio.to_thread(_running, self._application)
                self._asked = time.monotonic()
        return self._running


def _running(application: str) -> int:
    serve = require("ray.serve", "ray")
    try:
        states = serve.status().applications[application].deployments.values()
    except Exception:  # noqa: BLE001 - of a cluster that is gone Ray raises whatever it trips over
        return 0
    return sum(int(state.replica_states.get("RUNNING", 0)) for state in states)


@contextmanager
def ray_replicas(options: ClusterOptions, worker: WorkerOptions) -> Iterator[RayReplicas]:
    """Start the replicas, and end them and, if it is our own, the cluster. Raises `UsageError`, `BundleError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report its use; read when it is imported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # GPUs stay visible to actors that count none
    os.environ.setdefault("RAY_worker_niceness", "0")  # else replicas give way to everything else on the machine
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    ray, serve = require("ray", "ray"), require("ray.serve", "ray")
    without_metadata_requests()
    _connect(ray, options)
    application = f"ovs-serve-{secrets.token_hex(4)}"  # a cluster may hold several
    try:
        deployment = serve.deployment(_Replica).options(
            name="segmenter",
            num_replicas=options.replicas,
            max_ongoing_requests=AT_ONCE,
            health_check_period_s=_HEALTH,
            graceful_shutdown_timeout_s=_HEALTH,
            ray_actor_options={
                "num_cpus": options.cpus,
                "num_gpus": options.gpus,
                # The last defence against a picture whose header lies.
                "runtime_env": {"env_vars": {"OPENCV_IO_MAX_IMAGE_PIXELS": str(worker.most_pixels)}},
            },
        )
        try:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)  # of this process: each step of the start
            serve.start(http_options={"location": "NoServer"}, logging_config={"log_level": "WARNING"})
            handle = serve.run(deployment.bind(worker), name=application, route_prefix=None)
        except Exception as error:
            raise BundleError(f"the replicas of {worker.bundle} did not start: {_reason(error)}") from error
        yield RayReplicas(handle, application, options.replicas)
    finally:
        if options.address is not None:  # our own cluster ends as a whole
            with suppress(Exception):
                serve.delete(application)
        ray.shutdown()


def _connect(ray: Any, options: ClusterOptions) -> None:
    own = {
        "num_cpus": max(os.cpu_count() or 1, int(options.replicas * options.cpus) + 1),
        "object_store_memory": _STORE,
        "include_dashboard": False,
    }
    where = f"the Ray cluster {options.address}" if options.address else "a Ray cluster of this machine"
    for attempt in range(1 if options.address else _STARTS):
        try:
            ray.init(
                **({"address": options.address} if options.address else own),
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=True,
            )
        except Exception as error:  # noqa: PERF203 - a few times
            ray.shutdown()
            if options.address is None and attempt < _STARTS - 1:  # Ray gives a busy machine 30 s
                continue
            raise UsageError(f"cannot use {where}: {_reason(error)}") from error
        else:
            return


def _reason(error: BaseException) -> str:
    """The last line that says something: Ray puts whole tracebacks into its messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__} {lines[-1] if lines else ''}"[:300]
