"""`ovs-build`: a bundle becomes a TensorRT plan for this machine's GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..bundle.errors import MissingExtraError, PlanError, UsageError, require
from ..runtime.command_line import run_command

# TensorRT and onnx are imported once the options are known to be sound: --help must not wait for them.
if TYPE_CHECKING:
    from rich.console import Console

    from ..bundle.bundle import Bundle
    from ..runtime.engines.cuda import Gpu
    from ..runtime.engines.plan import Plan, Target
    from .tensorrt.child_process import Progress
    from .tensorrt.make_plan import PlanOptions
    from .tensorrt.photos import Pictures

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

_LEVELS = 5


class Sampling(str, Enum):
    """Values of --msda."""

    auto = "auto"
    gridsample = "gridsample"
    gather = "gather"
    plugin = "plugin"


class Engine(str, Enum):
    """Values of --engine."""

    tensorrt = "tensorrt"
    tensorrt_rtx = "tensorrt_rtx"


@app.command()
def build(
    bundle: Annotated[
        Path,
        typer.Argument(help="Bundle folder, as ovs-export writes it; with --inspect, or a plan.", metavar="NAME.ovs"),
    ],
    precision: Annotated[
        str, typer.Option(help="One of the bundle's: fp32, fp16, int8; or auto: the fastest that passes, on a GPU.")
    ] = "auto",
    msda: Annotated[
        Sampling,
        typer.Option(
            help="How deformable attention samples. auto: as the bundle does, and otherwise where that fails. "
            "plugin: TensorRT's own kernel, untested on a GPU."
        ),
    ] = Sampling.auto,
    profiles: Annotated[
        str | None,
        typer.Option(help="Sizes that class lists are padded to, CLASSESxNAMES. Default: 8x64,32x64,128x64,512x32."),
    ] = None,
    level: Annotated[
        int | None,
        typer.Option(min=0, max=_LEVELS, help="How long TensorRT looks for fast kernels, 0 to 5. Default: 3."),
    ] = None,
    workspace: Annotated[
        int | None, typer.Option(min=1, help="MiB of GPU memory for scratch. Default: half of what is free.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="Pictures to compare on: a folder or a video. Default: the demo's, or generated ones."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the plan to this folder. Default: the user's cache.")
    ] = None,
    engine: Annotated[
        Engine | None, typer.Option(help="Which TensorRT, where both are installed. Default: tensorrt.")
    ] = None,
    inspect: Annotated[
        bool,
        typer.Option(
            "--inspect",
            help="Print layers and their types, and on a GPU the ten slowest; of a plan that is there, without building.",
        ),
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
    """Build a plan, compare it with ONNX Runtime on a few pictures, and keep it for ovs-run if it passes."""
    from rich.console import Console

    from ..runtime.engines.plan import SIDECAR, Plan, Target

    console = Console(stderr=True, highlight=False, markup=False)  # messages hold brackets
    if (bundle / SIDECAR).is_file():
        if not inspect:
            raise UsageError(f"{bundle} is a plan already; --inspect prints it, a bundle is what plans are built from")
        _inspect(Plan.open(bundle), _gpu(console) is not None, console)
        return
    require("onnx", "calibrate")
    from ..bundle.bundle import Bundle
    from ..runtime.engines.tensorrt_api import MSDA_PLUGIN, Log, load
    from .tensorrt.make_plan import AUTO, PlanOptions, default_profiles, make_plan, parse_profiles
    from .tensorrt.photos import read_pictures
    from .tensorrt.report import add_row, print_layers, print_parity
    from .tensorrt.reuse import newest_cached

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
    gpu = _gpu(console)
    looks = gpu is None and inspect and output is None and not rebuild  # there is nothing to hold a plan against
    if looks and (plan := newest_cached(opened, precision)) is not None:
        _inspect(plan, False, console)
        return
    trt = load(None if engine is None else engine.value)
    if gpu is None and trt.module == "tensorrt":
        raise PlanError(
            f"tensorrt {trt.version} builds on the GPU that the plan is for, and none is here; build on the device, or "
            "check without one by tensorrt_rtx: pip install 'ovs-edge[rtx]' and --engine tensorrt_rtx"
        )
    options = replace(options, plugin=trt.plugin_version(MSDA_PLUGIN, trt.logger(Log())))
    here = Target.here(trt.module, trt.version, gpu.name if gpu else None, gpu.capability if gpu else None)
    pictures = None if gpu is None else read_pictures(images, opened.manifest.input_size)
    if pictures is not None and output is None and not rebuild:
        plan = _kept(opened, options, here, pictures, console)
        if plan is not None:
            what = f", {plan.sidecar.precision} of the last choice" if precision == AUTO else ""
            console.print(f"{plan.path} is up to date{what}; --rebuild builds it again", soft_wrap=True)
            if inspect:
                _inspect(plan, True, console)
            return
    with _progress(console) as progress:
        outcome, place = make_plan(
            opened, options, here, output, pictures, lambda line: console.print(line, soft_wrap=True), progress
        )
    if inspect:
        if place is not None:
            _inspect(Plan.open(place), gpu is not None, console)
        else:
            print_layers(outcome.built.layers)
    if outcome.parity is not None:
        print_parity(outcome.parity)
    if report is not None:
        add_row(report, opened, options, here, outcome)
    _tell_end(console, bundle, outcome.candidate.precision, place, output, gpu is not None)


def _inspect(plan: Plan, gpu: bool, console: Console) -> None:
    """Print what a plan is made of; the engine itself tells more, and only on the GPU that it is for."""
    from .tensorrt.report import print_engine, print_layers, recorded_layers

    sidecar = plan.sidecar
    console.print(
        f"{plan.path}: {sidecar.bundle} in {sidecar.precision}, {sidecar.formulation}, level {sidecar.level}, "
        f"built for {sidecar.target}",
        soft_wrap=True,
    )
    try:
        print_layers(recorded_layers(plan))
    except PlanError as error:
        if not gpu:
            raise
        console.print(str(error), soft_wrap=True)
    if gpu:
        print_engine(plan)


def _gpu(console: Console) -> Gpu | None:
    """The GPU to build for, or None after a line that says why there is none."""
    from ..runtime.engines.cuda import find_gpu

    try:
        return find_gpu()
    except (MissingExtraError, PlanError) as error:
        console.print(f"nothing can be run or compared here: {error}", soft_wrap=True)
        return None


def _kept(bundle: Bundle, options: PlanOptions, here: Target, pictures: Pictures, console: Console) -> Plan | None:
    """The cached plan that is what was asked for; None after a line that says why it is built."""
    from .tensorrt.reuse import find_cached

    try:
        return find_cached(bundle, options, here, pictures)
    except PlanError as error:
        console.print(f"{error}; building", soft_wrap=True)
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
    run_command(app)


if __name__ == "__main__":
    main()
