"""The work of a job on a Ray cluster: Ray Data hands units to a pool of actors, each with a bundle of its own.

The units, the names and the files are those of a run without Ray, and the records decide what is done. So a worker that
is lost loses nothing: Ray gives its unit to another, which goes on from the journal where the output is shared, and
writes the same bytes again where it is not.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, replace
from typing import Any

from ..bundle.bundle import Bundle
from ..bundle.errors import OvsError, UsageError, require
from ..models import default_bundle
from ..runtime.threads.ray_usage import without_metadata_requests
from .inputs.places import is_remote
from .inputs.units import Unit
from .job import LabelJob, UnitState
from .labeller import Machine, UnitLabeller, load_segmenter, single_threaded_opencv, writer_of
from .settings import LabelSettings
from .store import open_store

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing leaves the machine
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's new behaviour, of which it warns otherwise
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # progress is ours
    "RAY_NUM_REDIS_GET_RETRIES": "3",  # attempts to reach a cluster that may be gone
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
_STARTS = 4  # attempts to start a cluster on this machine
_LOGGERS = ("ray", "ray.data")  # what they say is not for users: errors come as exceptions


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and what each worker of it may use."""

    address: str = "auto"  # "auto": the cluster this machine belongs to, else as "local": one on this machine
    workers: int = 0  # 0: as many as fit
    cpus: float = 1.0  # of each worker
    gpus: float = 0.0


@dataclass(frozen=True)
class Assignment:
    """What a worker is told when it starts."""

    settings: LabelSettings
    machine: Machine
    output: str  # folder or address
    folder: str  # in which relative paths of the inputs begin


class LabelWorker:
    """An actor: loads the bundle once, then labels the units it is given."""

    def __init__(self, assignment: Assignment) -> None:
        single_threaded_opencv()
        with suppress(OSError):  # where the inputs are addresses, or absolute, it matters to nobody
            os.chdir(assignment.folder)
        settings = assignment.settings
        model = assignment.machine.model
        digest = Bundle.open(default_bundle() if model is None else model, verify=False).digest
        if digest != settings.digest:
            raise UsageError(
                f"a worker's bundle has the digest {digest[:12]}…, the job's {settings.digest[:12]}…; give --model a "
                "folder that all machines share"
            )
        self._store = open_store(assignment.output)
        self._segmenter = load_segmenter(assignment.machine, settings, settings.precision)
        self._segmenter.set_classes(list(settings.classes))
        self._labeller = UnitLabeller(self._segmenter, settings, self._store, writer_of(settings))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Label the units of a batch; how many pictures were labelled, and how many could not be."""
        labelled: list[int] = []
        bad: list[int] = []
        errors: list[str] = []
        for line, shards in zip(batch["unit"], batch["shards"], strict=True):
            counts = [0, 0]

            def tell(done: bool, counts: list[int] = counts) -> None:  # noqa: FBT001 - a callback
                counts[not done] += 1

            state = UnitState(int(shards))
            try:
                self._labeller.run([Unit.from_json(str(line))], lambda unit, state=state: state, tell)  # type: ignore[misc]
                errors.append("")
            except OvsError as error:  # told by whoever started the job, in one line
                errors.append(str(error))
            labelled.append(counts[0])
            bad.append(counts[1])
        return {"labelled": labelled, "bad": bad, "error": errors}


def label_on_cluster(
    cluster: Cluster, job: LabelJob, machine: Machine, output: str, tell: Callable[[bool], None]
) -> None:
    """Label what is left of a job. Raises `UsageError` where the cluster cannot be used, and a worker's `OvsError`."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    ray, data = require("ray", "ray"), require("ray.data", "ray")
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    shared = output if is_remote(output) else os.path.abspath(output)
    own = replace(machine, threads=machine.threads or max(1, int(cluster.cpus)))
    if own.model is not None:
        own = replace(own, model=os.path.abspath(own.model))
    assignment = Assignment(job.manifest.settings, own, shared, os.getcwd())
    started = _connect(ray, cluster)
    try:
        rows = [{"unit": unit.to_json(), "shards": job.state(unit).shards} for unit in job.pending()]
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.verbose_progress = False
        context.print_on_execution_start = False
        workers = cluster.workers or _fitting(ray, cluster)
        # A block for each unit, so that units go to the workers one by one, in their order.
        set_of_units = data.from_items(rows, override_num_blocks=len(rows))
        results = set_of_units.map_batches(
            LabelWorker,
            fn_constructor_args=(assignment,),
            batch_size=1,
            batch_format="numpy",
            compute=data.ActorPoolStrategy(size=min(workers, len(rows)), max_tasks_in_flight_per_actor=2),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus or None,
        )
        for row in results.iter_rows():
            if row["error"]:
                raise UsageError(str(row["error"]))
            for _ in range(int(row["labelled"])):
                tell(True)  # noqa: FBT003 - a callback
            for _ in range(int(row["bad"])):
                tell(False)  # noqa: FBT003 - a callback
    except ray.exceptions.RayError as error:
        raise UsageError(f"the Ray cluster failed ({_reason(error)}); run the same command again to go on") from error
    finally:
        if started:
            ray.shutdown()


def _connect(ray: Any, cluster: Cluster) -> bool:
    """Join the cluster, or start one on this machine; whether it is ours to shut down. Raises `UsageError`."""
    if ray.is_initialized():
        return False
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    named = os.environ.get("RAY_ADDRESS") if cluster.address == "auto" else cluster.address
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results
            if named == "local":
                _start(ray, options)
                return True
            try:
                ray.init(address=named or "auto", **options)
            except ConnectionError:
                if named:
                    raise
                _start(ray, options)
    except Exception as error:  # Ray raises its own, the system's, and plain ones
        raise UsageError(
            f"cannot use a Ray cluster at {cluster.address!r} ({_reason(error)}); start one with ray start --head, or use "
            "--ray auto"
        ) from error
    return True


def _start(ray: Any, options: dict[str, Any], attempts: int = _STARTS) -> None:
    """A cluster on this machine. Ray gives its own processes 30 seconds to start, which a busy machine exceeds."""
    without_metadata_requests()
    try:
        ray.init(address="local", include_dashboard=False, **options)
    except Exception as error:
        ray.shutdown()
        if attempts == 1 or "timed out" not in str(error):
            raise
        _start(ray, options, attempts - 1)


def _fitting(ray: Any, cluster: Cluster) -> int:
    """How many workers fit on the cluster."""
    found = ray.cluster_resources()
    fits = [found.get("CPU", 0) / cluster.cpus]
    if cluster.gpus:
        fits.append(found.get("GPU", 0) / cluster.gpus)
    count = int(min(fits))
    if count < 1:
        raise UsageError(
            f"the Ray cluster has {found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs, a worker needs "
            f"{cluster.cpus:g} and {cluster.gpus:g}; ask for less with --num-cpus and --num-gpus"
        )
    return count


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]
