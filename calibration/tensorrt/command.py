"""What `ovs-build` does with its options: inspect a plan, find a cached one, or build, compare and keep one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ...bundle.bundle import Bundle
from ...bundle.errors import MissingExtraError, PlanError, UsageError, require
from ...runtime.engines.plan import SIDECAR, Plan, Target
from ...runtime.threads.unwinding import unwinding_on_signals
from ..build_options import BuildOptions

# TensorRT and onnx are imported where they are used: a plan is inspected without onnx.
if TYPE_CHECKING:
    from ...runtime.engines.cuda import Gpu
    from .child_process import Progress
    from .make_plan import PlanOptions
    from .photos import Pictures


def run(options: BuildOptions) -> int:
    """Run the command; returns its exit code. Raises `PlanError`, `UsageError`, `ParityError`, `MissingExtraError`."""
    console = Console(stderr=True, highlight=False, markup=False)  # messages hold brackets
    with unwinding_on_signals():
        if (options.bundle / SIDECAR).is_file():
            if not options.inspect:
                raise UsageError(f"{options.bundle} is a plan; --inspect prints it, plans are built from bundles")
            _inspect(Plan.open(options.bundle), _gpu(console), console)
        else:
            _build(options, console)
    return 0


def _build(options: BuildOptions, console: Console) -> None:
    require("onnx", "calibrate")
    from ...runtime.engines.tensorrt_api import MSDA_PLUGIN, Log, load
    from .make_plan import AUTO, make_plan
    from .photos import read_pictures
    from .report import add_row, print_layers, print_parity
    from .reuse import newest_cached

    bundle = Bundle.open(options.bundle, force=options.force)
    wanted = _plan_options(bundle, options)
    gpu = _gpu(console)
    # Without a GPU there is nothing to compare a cached plan's target with: it may be inspected, no more.
    inspects = gpu is None and options.inspect and options.output is None and not options.rebuild
    if inspects and (plan := newest_cached(bundle, options.precision)) is not None:
        _inspect(plan, None, console)
        return
    trt = load(None if options.engine is None else options.engine.value)
    if gpu is None and trt.module == "tensorrt":
        raise PlanError(
            f"tensorrt {trt.version} builds on the GPU that the plan is for, and none is here; build on the device, or "
            "check without one by tensorrt_rtx: pip install 'ovs-edge[rtx]' and --engine tensorrt_rtx"
        )
    wanted = replace(wanted, plugin=trt.plugin_version(MSDA_PLUGIN, trt.logger(Log())))
    here = Target.here(trt.module, trt.version, gpu.name if gpu else None, gpu.capability if gpu else None)
    pictures = None if gpu is None else read_pictures(options.images, bundle.manifest.input_size)
    if pictures is not None and options.output is None and not options.rebuild:
        plan = _cached(bundle, wanted, here, pictures, console)
        if plan is not None:
            what = f", {plan.sidecar.precision} of the last choice" if options.precision == AUTO else ""
            console.print(f"{plan.path} is up to date{what}; --rebuild builds it again", soft_wrap=True)
            if options.inspect:
                _inspect(plan, gpu, console)
            return
    with _progress(console) as progress:
        outcome, place = make_plan(
            bundle, wanted, here, options.output, pictures, lambda line: console.print(line, soft_wrap=True), progress
        )
    if options.inspect:
        if place is not None:
            _inspect(Plan.open(place), gpu, console)
        else:
            print_layers(outcome.built.layers)
    if outcome.parity is not None:
        print_parity(outcome.parity)
    if options.report is not None:
        add_row(options.report, bundle, wanted, here, outcome)
    _print_end(console, options, outcome.candidate.precision, place, gpu)


def _plan_options(bundle: Bundle, options: BuildOptions) -> PlanOptions:
    from .make_plan import PlanOptions, default_profiles, parse_profiles

    most = bundle.manifest.graph.max_classes
    return PlanOptions(
        precision=options.precision,
        msda=options.msda.value,
        profiles=default_profiles(most) if options.profiles is None else parse_profiles(options.profiles, most),
        level=options.level,
        workspace=None if options.workspace is None else options.workspace * 2**20,
        images=options.images,
        memory_check=options.memory_check,
    )


def _inspect(plan: Plan, gpu: Gpu | None, console: Console) -> None:
    """Print a plan's layers; those of the engine itself only on its GPU."""
    from .report import print_engine, print_layers, recorded_layers

    sidecar = plan.sidecar
    console.print(
        f"{plan.path}: {sidecar.bundle} in {sidecar.precision}, {sidecar.formulation}, level {sidecar.level}, "
        f"built for {sidecar.target}",
        soft_wrap=True,
    )
    try:
        print_layers(recorded_layers(plan))
    except PlanError as error:
        if gpu is None:
            raise
        console.print(str(error), soft_wrap=True)
    if gpu is not None:
        print_engine(plan)


def _gpu(console: Console) -> Gpu | None:
    """The GPU to build for; None after a line that says why there is none."""
    from ...runtime.engines.cuda import find_gpu

    try:
        return find_gpu()
    except (MissingExtraError, PlanError) as error:
        console.print(f"nothing can be run or compared here: {error}", soft_wrap=True)
        return None


def _cached(bundle: Bundle, options: PlanOptions, here: Target, pictures: Pictures, console: Console) -> Plan | None:
    """The cached plan that fits; None after a line that says why there is none."""
    from .reuse import find_cached

    try:
        return find_cached(bundle, options, here, pictures)
    except PlanError as error:
        console.print(f"{error}; building", soft_wrap=True)
        return None


def _print_end(console: Console, options: BuildOptions, precision: str, place: Path | None, gpu: Gpu | None) -> None:
    if place is None:
        line = "it builds; without a GPU it cannot be compared, and is not kept (-o FOLDER keeps it)"
    elif gpu is None:
        line = f"{place}: built, and not compared with anything; ovs-run will say so"
    else:
        how = f"--plan {options.output}" if options.output is not None else "--provider tensorrt"
        line = f"{place}: passed; run it with: ovs-run --model {options.bundle} --precision {precision} {how}"
    console.print(line, soft_wrap=True)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """A progress bar of TensorRT's present phase on a terminal, nothing elsewhere."""
    if not console.is_terminal:
        yield lambda phase, done, of: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda phase, done, of: bar.update(task, description=phase, completed=done, total=of or None)
