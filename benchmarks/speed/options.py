"""The options of `ovs-bench speed`, `profile`, `precisions` and `depth`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from ..options import Model, Output, Precision, Threads


@dataclass(frozen=True)
class SpeedOptions:
    """Options of `ovs-bench speed`; each field is the option of its name."""

    model: Annotated[
        tuple[Path, ...], Option(help="Bundle folder NAME.ovs; may be repeated. Default: the embedded model.")
    ] = ()
    precision: Annotated[str, Option(help="Precisions of the bundles, comma-separated, or 'all'.")] = "fp32"
    backend: Annotated[
        str,
        Option(
            help="cpu, cuda, cuda-graphs, tensorrt, ort-tensorrt, ort-rtx, torch, comma-separated; 'auto' is what "
            "ovs-run takes, 'all' is every backend that this machine can open."
        ),
    ] = "auto"
    classes: Annotated[
        str | None, Option(help="Numbers of classes, such as 2,20,150. Default: five names and the background classes.")
    ] = None
    threads: Threads = 2
    runs: Annotated[int, Option(min=1, help="Timed frames of each row.")] = 100
    seconds: Annotated[float | None, Option(min=0.1, help="Total time to measure for, instead of --runs.")] = None
    source: Annotated[str | None, Option(help="Source of the frames, as for ovs-run. Default: synthetic frames.")] = (
        None
    )
    peer: Annotated[
        tuple[Path, ...],
        Option(help="Another exported model.onnx in the same table; may be repeated. Runs on the bundles' device."),
    ] = ()
    peer_command: Annotated[
        tuple[str, ...],
        Option(
            help="A program in the same table; may be repeated. It reads the path of a JPEG file from each line of "
            "standard input and answers with one line."
        ),
    ] = ()
    start: Annotated[
        bool, Option("--start/--no-start", help="Also measure start-up in new processes, and class changes.")
    ] = True
    compare: Annotated[
        Path | None, Option(help="An earlier result: print the differences; exit code 3 if this one is slower.")
    ] = None
    regression: Annotated[float, Option(min=0, help="Acceptance threshold of --compare, in per cent.")] = 5.0
    output: Output = None


@dataclass(frozen=True)
class ProfileOptions:
    """Options of `ovs-bench profile`; each field is the option of its name."""

    model: Annotated[Path | None, Argument(help="Bundle folder NAME.ovs. Default: the embedded model.")] = None
    precision: Precision = "fp32"
    classes: Annotated[int, Option(min=1, help="Number of classes, of one name each.")] = 20
    threads: Threads = 2
    runs: Annotated[int, Option(min=1, help="Profiled runs of the network.")] = 30
    top: Annotated[int, Option(min=1, help="How many modules to print; the result file has all.")] = 15
    output: Output = None


@dataclass(frozen=True)
class PrecisionsOptions:
    """Options of `ovs-bench precisions`; each field is the option of its name."""

    photo: Annotated[Path, Argument(help="Photo for the timed runs.")]
    model: Model = None
    threads: Threads = 0
    rounds: Annotated[int, Option(min=1, help="Bursts of runs of each precision.")] = 12
    output: Output = None


@dataclass(frozen=True)
class DepthOptions:
    """Options of `ovs-bench depth`; each field is the option of its name."""

    model: Annotated[
        tuple[str, ...], Argument(help="Presets (mini, gkc_r50, gkc_r101, fcclip_r50, …) or checkpoint files.")
    ]
    layers: Annotated[
        str, Option(help="Decoder depths, comma-separated; depths that a model does not have are skipped.")
    ] = "3,6,9"
    size: Annotated[str | None, Option(help="Input size, as for ovs-export. Default: that of ovs-export.")] = None
    threads: Annotated[int, Option(min=1, help="CPU threads of both engines.")] = 2
    runs: Annotated[int, Option(min=1, help="Timed runs of each.")] = 7
    output: Output = None
