"""Results of `ovs-bench speed` and `ovs-bench profile` on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from ..speed.compare import CONFIDENCE, ResultComparison, relative
from ..speed.profile import LayerProfile, grouped
from ..speed.speed import SpeedResult
from .speed_tables import is_peer

_WIDTH = 160  # columns where the output is no terminal


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH)


def print_comparison(comparison: ResultComparison, allowed: float) -> None:
    """Every row before and now, and what makes the two results hard to compare; `allowed` is a share such as 0.05."""
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


def print_profile(result: LayerProfile, top: int) -> None:
    """The `top` slowest modules, the rest as one row, and the same by the first two parts of the modules' names."""
    table = Table("module", "operators", "ms", "share", title=f"{result.network_ms:.1f} ms a run, profiled")
    for layer in result.layers[:top]:
        table.add_row(layer.module, " ".join(layer.operators), f"{layer.ms:.2f}", f"{layer.share:.1%}")
    rest = sum(layer.ms for layer in result.layers[top:])
    table.add_row(f"{max(0, len(result.layers) - top)} others", "", f"{rest:.2f}", f"{rest / result.kernels_ms:.1%}")
    _console().print(table)
    for name, ms in grouped(result, 2)[:top]:
        print(f"{ms:8.2f} ms  {ms / result.kernels_ms:6.1%}  {name}")
    for line in result.doubts:
        print(f"warning: {line}")


def print_speed(result: SpeedResult) -> None:
    """Rows, start-up in new processes, ratios beside peers, and warnings about the measurement."""
    console = _console()
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
    # Beside a peer, or with one bundle beside another, the ratio is the figure to read.
    paired = len(result.rows) == 2 or any(is_peer(row.subject.backend) for row in result.rows)
    for entry in relative([asdict(row) for row in result.rows]) if paired else ():
        interval = f"{entry.low:.2f}, {entry.high:.2f}" if entry.judged else "too few bursts"
        print(f"{entry.title}: {entry.ratio:.2f} [{interval}] times the time of {result.rows[0].title}")
    for line in result.left_out:
        print(f"left out: {line}")
    for line in all_doubts(result):
        print(f"warning: {line}")


def all_doubts(result: SpeedResult) -> Sequence[str]:
    """Warnings about the measurement: of the machine, then of each row."""
    return [*result.conditions.warnings, *(f"{row.title}: {line}" for row in result.rows for line in row.doubts)]
