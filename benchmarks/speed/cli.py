"""`ovs-bench speed` and `ovs-bench profile`: what a frame costs, and where."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...bundle.errors import UsageError
from ..options import Output, Precision, Threads, positive, write_result

if TYPE_CHECKING:
    from .compare import ResultComparison
    from .speed import SpeedResult


def speed(
    model: Annotated[
        list[Path] | None, typer.Option(help="Bundle folder NAME.ovs, or several. Default: the embedded one.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the bundles, comma-separated, or 'all'.")] = "fp32",
    backend: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, tensorrt, ort-tensorrt, ort-rtx, torch, comma-separated; 'auto' is what ovs-run takes, "
            "'all' every one that is here."
        ),
    ] = "auto",
    classes: Annotated[
        str | None, typer.Option(help="Numbers of classes, such as 2,20,150. Default: five and their background.")
    ] = None,
    threads: Threads = 2,
    runs: Annotated[int, typer.Option(min=1, help="Timed frames of each row.")] = 100,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Instead of --runs: for so long in all.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Where the frames come from, as for ovs-run. Default: synthetic pictures.")
    ] = None,
    peer: Annotated[
        list[Path] | None,
        typer.Option(help="Another exported model.onnx in the same table, where the bundles run; or several."),
    ] = None,
    peer_command: Annotated[
        list[str] | None,
        typer.Option(help="A program in the same table: reads a JPEG's path a line, answers each with a line."),
    ] = None,
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Time fresh processes and changes of classes as well.")
    ] = True,
    compare: Annotated[
        Path | None, typer.Option(help="An earlier result: print what changed, exit code 3 if it is slower.")
    ] = None,
    regression: Annotated[float, typer.Option(min=0, help="Per cent that --compare lets pass.")] = 5.0,
    output: Output = None,
) -> None:
    """What a frame costs, stage by stage: bundles, precisions, engines, class counts and other models in turns."""
    from ...models import default_bundle
    from .compare import LEAST_BURSTS, check, load_result
    from .speed import BURST, Matrix, measure_speed

    before = load_result(compare) if compare is not None else None  # now, not after the measurement
    if before is not None and seconds is None and runs < LEAST_BURSTS * BURST:
        raise UsageError(f"--runs is {runs}, expected {LEAST_BURSTS * BURST} or more for --compare to judge by")
    peers, commands = tuple(peer or ()), tuple(peer_command or ())
    matrix = Matrix(
        bundles=tuple(model or [default_bundle()]),
        precisions=_words(precision, "--precision"),
        backends=_words(backend, "--backend"),
        classes=tuple(positive(classes, "--classes", "2,20,150")) if classes else (),
        threads=threads,
        runs=runs,
        seconds=seconds,
        source=source,
        peers=peers,
        commands=commands,
        start=start,
    )
    result = measure_speed(matrix, lambda step: print(step, file=sys.stderr))
    print_speed(result)
    document: dict[str, Any] = {"speed": asdict(result)}
    comparison = None
    try:
        if before is not None:
            comparison = _compare(before, document, regression / 100)
            document["comparison"] = {"allowed": regression / 100, **asdict(comparison)}
    finally:  # what was measured is kept, even where nothing compares with it
        write_result(output, None, document)
    if comparison is not None:
        check(comparison.changes, regression / 100, [*comparison.warnings, *all_doubts(result)])


def _compare(before: dict[str, Any], after: dict[str, Any], allowed: float) -> ResultComparison:
    """Print every change, what only one of the two has, and where the machines differ."""
    from ..machine.environment import Environment
    from .compare import CONFIDENCE, compare

    comparison = compare(before, {"environment": asdict(Environment.here()), **after})
    for entry in comparison.changes:
        print(
            f"{entry.title}, {entry.what}: {entry.before_ms:.1f} -> {entry.after_ms:.1f} ms, x{entry.ratio:.3f} "
            f"[{entry.low:.3f}, {entry.high:.3f}], {CONFIDENCE:.0%}: {entry.verdict(allowed)}"
        )
    for title in comparison.only_before:
        print(f"only before: {title}")
    for title in comparison.only_now:
        print(f"only now: {title}")
    for line in comparison.warnings:
        print(f"warning: {line}")
    return comparison


def profile(
    model: Annotated[Path | None, typer.Argument(help="Bundle folder NAME.ovs. Default: the embedded one.")] = None,
    precision: Precision = "fp32",
    classes: Annotated[int, typer.Option(min=1, help="Number of classes, of one name each.")] = 20,
    threads: Threads = 2,
    runs: Annotated[int, typer.Option(min=1, help="Profiled runs of the network.")] = 30,
    top: Annotated[int, typer.Option(min=1, help="How many modules to print; the result has all.")] = 15,
    output: Output = None,
) -> None:
    """The network's slowest layers by the names of their torch modules, in ONNX Runtime on the CPU."""
    from rich.console import Console
    from rich.table import Table

    from ...bundle.bundle import Bundle
    from ...models import default_bundle
    from .profile import grouped, measure_profile

    path = model or default_bundle()
    result = measure_profile(Bundle.open(path), precision, classes, threads, runs)
    table = Table("module", "operators", "ms", "share", title=f"{result.network_ms:.1f} ms a run, profiled")
    for layer in result.layers[:top]:
        table.add_row(layer.module, " ".join(layer.operators), f"{layer.ms:.2f}", f"{layer.share:.1%}")
    rest = sum(layer.ms for layer in result.layers[top:])
    table.add_row(f"{max(0, len(result.layers) - top)} others", "", f"{rest:.2f}", f"{rest / result.kernels_ms:.1%}")
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for name, ms in grouped(result, 2)[:top]:
        print(f"{ms:8.2f} ms  {ms / result.kernels_ms:6.1%}  {name}")
    for line in result.doubts:
        print(f"warning: {line}")
    write_result(output, path, {"profile": asdict(result)})


def _words(text: str, option: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:
        raise UsageError(f"{option} is {text!r}, expected names, comma-separated")
    return words


def print_speed(result: SpeedResult) -> None:
    """Rows, starts, and every reason for doubt."""
    from rich.console import Console
    from rich.table import Table

    from ..report.speed_tables import is_peer
    from .compare import relative

    console = Console(width=None if sys.stdout.isatty() else 160)
    stages = list(dict.fromkeys(name for row in result.rows for name in row.stages))
    table = Table("", *stages, "total p50", "p90", "p99", "FPS", "live FPS", "age", title="Milliseconds a frame")
    if joules := any(row.joules is not None for row in result.rows):
        table.add_column("J a frame")
    for row in result.rows:
        medians = [f"{row.stages[name].p50:.1f}" if name in row.stages else "" for name in stages]
        total = [f"{value:.1f}" for value in (row.total.p50, row.total.p90, row.total.p99, row.fps, row.live.fps)]
        energy = [f"{row.joules:.3f}" if row.joules is not None else ""] if joules else []
        table.add_row(row.title, *medians, *total, f"{row.live.age_ms:.0f}", *energy)
    console.print(table)
    if result.starts:
        table = Table(
            "", "first labels", "first names", "new names", "known names", "MiB", "peak", title="A new process"
        )
        if on_gpu := any(start.gpu_mib is not None for start in result.starts):
            table.add_column("GPU MiB")
        for start in result.starts:
            times = [f"{value:.0f} ms" for value in (start.first_labels_ms, start.first_names_ms)]
            changes = [f"{value:.1f} ms" for value in (start.new_names_ms, start.known_names_ms)]
            size = "x".join(map(str, start.input_size))
            memory = [f"{start.resident_mib:.0f}", f"{start.peak_mib:.0f}"]
            memory += [f"{start.gpu_mib:.0f}" if start.gpu_mib is not None else ""] if on_gpu else []
            table.add_row(f"{start.model} {start.precision} {start.backend} {size}", *times, *changes, *memory)
        console.print(table)
    # Beside a peer, or one bundle beside another, the ratio is what counts.
    paired = len(result.rows) == 2 or any(is_peer(row.subject.backend) for row in result.rows)
    for entry in relative([asdict(row) for row in result.rows]) if paired else ():
        interval = f"{entry.low:.2f}, {entry.high:.2f}" if entry.judged else "too few bursts"
        print(f"{entry.title}: {entry.ratio:.2f} [{interval}] times the time of {result.rows[0].title}")
    for line in result.left_out:
        print(f"left out: {line}")
    for line in all_doubts(result):
        print(f"warning: {line}")


def all_doubts(result: SpeedResult) -> Sequence[str]:
    """Of the machine, then of each row."""
    return [*result.conditions.warnings, *(f"{row.title}: {line}" for row in result.rows for line in row.doubts)]
