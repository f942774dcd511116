"""The options of `ovs-serve`: one frozen dataclass, from which the command line is made."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..bundle.errors import UsageError
from ..runtime.engines.registry import providers
from ..runtime.vocabulary.sensitivity import Sensitivity

MIB = 2**20
_MOST_GPUS = 1024


@dataclass(frozen=True)
class ServeOptions:
    """Options of `ovs-serve`; each field is the option of its name. Raises `UsageError` for a value out of range."""

    model: Annotated[
        Path | None, Argument(metavar="[NAME.ovs]", help="Bundle folder. Default: the embedded model.")
    ] = None
    replicas: Annotated[int, Option(min=1, max=1024, help="Processes that hold the model and answer requests.")] = 1
    address: Annotated[str, Option(metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")] = (
        "127.0.0.1:8080"
    )
    token: Annotated[
        str | None,
        Option(
            envvar="OVS_TOKEN",
            help="Access token; generated if other machines can connect and none is given.",
        ),
    ] = None
    allow_host: Annotated[
        tuple[str, ...],
        Option(help="A further name by which clients reach this machine, such as a proxy's; may be repeated."),
    ] = ()
    queue: Annotated[int, Option(min=0, max=10_000, help="Requests that may wait; further ones get 503.")] = 32
    max_body: Annotated[float, Option(help="Largest request in MiB.")] = 16.0
    max_pixels: Annotated[float, Option(help="Largest picture in megapixels.")] = 25.0
    cache: Annotated[float, Option(help="Memory of each replica for vectors of class lists, in MiB.")] = 64.0
    precision: Annotated[str, Option(help="Precision of the bundle, or auto: the fastest that passed.")] = "fp32"
    provider: Annotated[str, Option(help=f"Engine: {', '.join(providers())}.")] = "auto"
    threads: Annotated[
        int, Option(min=0, max=4096, help="CPU threads of each replica; 0 divides the cores among them.")
    ] = 0
    gpus: Annotated[float, Option(min=0, help="GPUs of each replica; 0.5 puts two on one.")] = 0.0
    threshold: Annotated[
        float | None, Option(min=0, max=1, help="Confidence threshold. Default: the bundle's, or 0.3.")
    ] = None
    sensitivity: Annotated[Sensitivity, Option(help="How readily a class is found.")] = Sensitivity.NORMAL
    background: Annotated[
        str, Option(help="Background classes: auto (the trained names), none, or names such as wall,floor.")
    ] = "auto"
    ray: Annotated[
        str | None,
        Option(
            metavar="ADDRESS", help="Put the replicas on a running Ray cluster: HOST:PORT, or auto for this machine's."
        ),
    ] = None

    def __post_init__(self) -> None:
        for name, value, most in (("max-body", self.max_body, 1024), ("max-pixels", self.max_pixels, 1000)):
            if not 0 < value <= most:
                raise UsageError(f"--{name} is {value:g}, expected more than 0 and at most {most}")
        if not 0 <= self.cache <= 2**16:
            raise UsageError(f"--cache is {self.cache:g}, expected MiB from 0 to {2**16}")
        if not 0 <= self.gpus <= _MOST_GPUS:
            raise UsageError(f"--gpus is {self.gpus:g}, expected GPUs of each replica from 0 to {_MOST_GPUS}")
        if self.threshold is not None and not 0 <= self.threshold <= 1:  # Option's bounds let nan pass
            raise UsageError(f"--threshold is {self.threshold:g}, expected a confidence from 0 to 1")

    @property
    def threads_each(self) -> int:
        """CPU threads of a replica."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.threads or max(1, cores // self.replicas)
