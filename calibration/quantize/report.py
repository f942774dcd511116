"""Results of a calibration as tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from .calibrate import CalibrationResult, PrecisionOutcome


def show(console: Console, result: CalibrationResult) -> None:
    """Print the sensitivity of every group, the verdicts, mean IoU and times."""
    for warning in result.warnings:
        console.print(f"warning: {warning}")
    for outcome in result.outcomes:
        if outcome.choice is not None:
            console.print(_sensitivity_table(outcome))
    table = Table(title="compared with FP32 on held-out images", title_justify="left")
    for name in ("precision", "labels equal", "worst image", "threshold", "worst class", "confidence", "verdict"):
        table.add_column(name, justify="left" if name == "precision" else "right")
    for outcome in result.outcomes:
        table.add_row(outcome.precision, *_verdict_cells(outcome))
    console.print(table)
    for outcome in result.outcomes:
        for row in outcome.verdict.labelled:
            console.print(
                f"{outcome.precision} on {row.dataset}, {row.photos} photos: mIoU {row.found:.3f}, fp32 {row.fp32:.3f}"
            )
        if outcome.milliseconds is not None:
            before, after = outcome.milliseconds
            console.print(f"{outcome.precision} takes {after:.1f} ms, fp32 {before:.1f} ms: {before / after:.2f}x")


def _sensitivity_table(outcome: PrecisionOutcome) -> Table:
    assert outcome.choice is not None
    on = "FP32's time" if outcome.milliseconds else "multiply-adds"
    table = Table(title=f"{outcome.precision}: sensitivity of each group of layers", title_justify="left")
    for name in ("group", "layers", "labels changed by it alone", f"saved, of {on}", "INT8"):
        table.add_column(name, justify="left" if name == "group" else "right")
    for group in outcome.choice.groups:
        cells = (f"{group.damage:.2%}", f"{group.saved:+.1%}", "yes" if group.quantised else "no")
        table.add_row(group.name, str(group.layers), *cells)
    return table


def _verdict_cells(outcome: PrecisionOutcome) -> tuple[str, ...]:
    verdict = outcome.verdict
    worst = min(verdict.classes.items(), key=lambda entry: entry[1], default=("", 1.0))
    return (
        f"{verdict.agreement:.2%}",
        f"{verdict.worst:.2%}",
        f"{verdict.bar:.1%}",
        f"{worst[0]} {worst[1]:.0%}",
        f"±{verdict.confidence_shift:.4f}",
        "passed" if verdict.passed else "failed" if verdict.finite else "not finite",
    )
