"""`ovs-build`: a bundle becomes a TensorRT plan for this machine's GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ovs_edge.bundle.errors import MissingExtraError, PlanError, exit_on_error, require

# TensorRT and onnx are imported once the options are known to be sound: --help must not wait for them.
if TYPE_CHECKING:
    from rich.console import Console

    from ovs_edge.bundle.bundle import Bundle
    from ovs_edge.calibration.build_child import Progress
    from ovs_edge.runtime.cuda import Gpu
    from ovs_edge.runtime.plan import Plan, Target

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

_LEVELS = 5


class Sampling(str, Enum):
    """Values of --msda."""

    auto = "auto"
    gridsample = "gridsample"
    gather = "gather"


class Engine(str, Enum):
    """Values of --engine."""

    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt_rtx"


@app.command()
def build(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, as ovs-export writes it.", metavar="NAME.ovs")],
    precision: Annotated[
        str, typer.Option(help="One of the bundle's: fp32, fp16, int8; or auto: the fastest that passes, on a GPU.")
    ] = "auto",
    msda: Annotated[
        Sampling,
        typer.Option(
            help="How deformable attention samples. auto: as the bundle does, and by gather where that fails."
        ),
    ] = Sampling.auto,
    profiles: Annotated[
        str | None,
        typer.Option(help="Sizes that class lists are padded to, CLASSESxNAMES. Default: 8x64,32x64,128x64,512x32."),
    ] = None,
    level: Annotated[
        int, typer.Option(min=0, max=_LEVELS, help="How long TensorRT looks for fast kernels, 0 to 5.")
    ] = 3,
    workspace: Annotated[
        int | None, typer.Option(min=1, help="MiB of GPU memory for scratch. Default: half of what is free.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Pictures to compare on: a folder or a video. Default: those of the demo.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan to this folder. Default: the user's cache.")
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option(help="Which TensorRT, where both are installed. Default: tensorrt.")
    ] = None,
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Print layers and their types, and on a GPU the ten slowest.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Add what was built, as JSON, to this file.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build even if a plan that fits is in the cache.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Build a precision that failed its comparison with fp32 all the same.")
    ] = False,
    memory_check: Annotated[
        bool, typer.Option("--memory-check/--no-memory-check", help="Whether too little free memory is refused.")
    ] = True,
) -> None:
    """Build a plan, compare it with ONNX Runtime on real pictures, and keep it for ovs-run if it passes."""
    require("onnx", "calibrate")
    from rich.console import Console

    from ovs_edge.bundle.bundle import Bundle
    from ovs_edge.calibration.build_plan import AUTO, PlanOptions, default_profiles, make_plan, parse_profiles
    from ovs_edge.calibration.build_report import add_row, print_engine, print_layers, print_parity
    from ovs_edge.runtime.plan import Plan, Target
    from ovs_edge.runtime.tensorrt_api import load
    from ovs_edge.runtime.tensorrt_session import TensorRTSession

    opened = Bundle.open(bundle, force=force)
    most = opened.manifest.graph.max_classes
    options = PlanOptions(
        precision=precision,
        msda=msda.value,
        profiles=default_profiles(most) if profiles is None else parse_profiles(profiles, most),
        level=level,
        workspace=None if workspace is None else workspace * 2**20,
        images=images,
        memory_check=memory_check,
    )
    trt = load(None if engine is None else engine.value)
    console = Console(stderr=True, highlight=False, markup=False)  # messages hold brackets
    gpu = _gpu(console)
    if gpu is None and trt.module == "tensorrt":
        raise PlanError(
            f"tensorrt {trt.version} builds on the GPU that the plan is for, and none is here; build on the device, or "
            "check without one by tensorrt_rtx: pip install 'ovs-edge[rtx]' and --engine tensorrt_rtx"
        )
    here = Target.here(trt.module, trt.version, gpu.name if gpu else None, gpu.capability if gpu else None)
    if gpu is not None and output is None and not rebuild and precision != AUTO:
        plan = _kept(opened, precision, here, console)
        if plan is not None and plan.sidecar.profiles == options.profiles:
            console.print(f"{plan.path} is up to date; --rebuild builds it again", soft_wrap=True)
            if inspect:
                print_engine(plan)
            return
    with _progress(console) as progress:
        outcome, place = make_plan(
            opened,
            options,
            here,
            output,
            lambda line: console.print(line, soft_wrap=True),
            progress,
            None if gpu is None else TensorRTSession,
        )
    if inspect:
        print_layers(outcome.built.layers)
        if place is not None and gpu is not None:
            print_engine(Plan.open(place))
    if outcome.parity is not None:
        print_parity(outcome.parity)
    if report is not None:
        add_row(report, opened, options, here, outcome)
    _tell_end(console, bundle, outcome.candidate.precision, place, output, gpu is not None)


def _gpu(console: Console) -> Gpu | None:
    """The GPU to build for, or None after a line that says why there is none."""
    from ovs_edge.runtime.cuda import find_gpu

    try:
        return find_gpu()
    except (MissingExtraError, PlanError) as error:
        console.print(f"nothing can be run or compared here: {error}", soft_wrap=True)
        return None


def _kept(bundle: Bundle, precision: str, here: Target, console: Console) -> Plan | None:
    """The cached plan that fits; None after a line that says why it is built."""
    from ovs_edge.runtime.plan import fitting

    try:
        return fitting(bundle, precision, here)
    except PlanError as error:
        console.print(str(error), soft_wrap=True)
        return None


def _tell_end(
    console: Console, bundle: Path, precision: str, place: Path | None, output: Path | None, gpu: bool
) -> None:
    if place is None:
        console.print("it builds; without a GPU it cannot be compared, and is not kept (-o FOLDER keeps it)")
    elif not gpu:
        console.print(f"{place}: built, and compared with nothing; ovs-run will say so", soft_wrap=True)
    else:
        how = f"--plan {output}" if output is not None else "--provider tensorrt"
        line = f"{place}: passed; run it with: ovs-run --model {bundle} --precision {precision} {how}"
        console.print(line, soft_wrap=True)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """A bar for TensorRT's present phase on a terminal, and nothing where none would be seen."""
    if not console.is_terminal:
        yield lambda phase, done, of: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda phase, done, of: bar.update(task, description=phase, completed=done, total=of or None)


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2, or 3 for a plan that differs."""
    exit_on_error(app)


if __name__ == "__main__":
    main()
