"""`ovs-calibrate`: a bundle gains FP16 and INT8 graphs, each with a measured verdict."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..bundle.errors import ParityError, UsageError, require
from ..runtime.command_line import run_command

# onnx and onnxruntime are imported once the options are known to be sound: --help must not wait for them.
if TYPE_CHECKING:
    from rich.console import Console

    from ..bundle.processor import Processor
    from .quantize.calibrate import Calibration, Outcome, Precision, Tell

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class RangeMethod(str, Enum):
    """Values of --method."""

    percentile = "percentile"
    min_max = "min-max"
    entropy = "entropy"


class Cpu(str, Enum):
    """Values of --cpu."""

    auto = "auto"
    vnni = "vnni"
    x86 = "x86"
    arm = "arm"


@app.command()
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, as ovs-export writes it.", metavar="NAME.ovs")],
    images: Annotated[
        str, typer.Option(help="Pictures of what the device will see: a folder, 'shots/*.jpg', a video.")
    ],
    precision: Annotated[
        str, typer.Option(help="What to write: fp16, int8 (for TensorRT), int8-cpu.")
    ] = "fp16,int8,int8-cpu",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write another bundle. Default: NAME.ovs gains the precisions."),
    ] = None,
    method: Annotated[RangeMethod, typer.Option(help="How the range of a tensor is found.")] = RangeMethod.percentile,
    pictures: Annotated[int, typer.Option(min=2, help="Most pictures to use, evenly spread over --images.")] = 96,
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with classes.json, images/val, masks/val: mean IoU before and after. Repeatable."),
    ] = None,
    fp16_bar: Annotated[float, typer.Option(help="Least share of FP32's labels that fp16 must give.")] = 0.99,
    int8_bar: Annotated[float, typer.Option(help="The same for int8 and int8-cpu.")] = 0.97,
    leave_out: Annotated[
        list[str] | None, typer.Option(help="Group of layers that is not quantised, as the table names it. Repeatable.")
    ] = None,
    cpu: Annotated[
        Cpu,
        typer.Option(help="int8-cpu for: auto, this machine; vnni, x86 with VNNI; x86, any, at some accuracy; arm."),
    ] = Cpu.auto,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: one per core.")] = 0,
) -> None:
    """Write FP16 and INT8 beside FP32 and measure what each computes; past its bar, exit code 3."""
    wanted = _precisions(precision)
    for name, bar in (("--fp16-bar", fp16_bar), ("--int8-bar", int8_bar)):
        if not 0 <= bar <= 1:
            raise UsageError(f"{name} is {bar:g}, expected a share from 0 to 1, such as 0.97")
    for module in ("onnx", "onnxruntime"):
        require(module, "calibrate")

    from rich.console import Console

    from ..bundle.bundle import Bundle
    from ..bundle.processor import processor
    from .quantize.calibrate import CalibrationOptions
    from .quantize.calibrate import calibrate as run

    console = Console(soft_wrap=True, highlight=False)
    opened = Bundle.open(bundle)
    options = CalibrationOptions(
        images=images,
        precisions=wanted,
        bars={"fp16": fp16_bar, "int8": int8_bar, "int8-cpu": int8_bar},
        method=method.value,
        pictures=pictures,
        labelled=tuple(labels or ()),
        without=frozenset(leave_out or ()),
        processor=processor() if cpu is Cpu.auto else cast("Processor", cpu.value),
        threads=threads,
    )
    target = bundle if output is None else output
    with _progress() as tell:
        calibration = run(opened, target, options, tell)
    _show(console, calibration)
    console.print(f"{target}: {', '.join(calibration.manifest.precisions)}")
    failed = [outcome for outcome in calibration.outcomes if not outcome.verdict.passed]
    if failed:
        verdict = failed[0].verdict
        found = f"{verdict.agreement:.2%} of the labels are those of fp32, expected {verdict.bar:.2%}"
        raise ParityError(
            f"{', '.join(outcome.precision for outcome in failed)} failed: "
            f"{found if verdict.finite else 'it gives numbers that are not finite'}; the bundle keeps it with that "
            "verdict, and ovs-run refuses it without --force"
        )


def _precisions(text: str) -> tuple[Precision, ...]:
    known = ("fp16", "int8", "int8-cpu")
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names or not set(names) <= set(known):
        raise UsageError(f"--precision is {text!r}, expected some of {', '.join(known)}")
    return cast("tuple[Precision, ...]", names)


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar for each step on a terminal, nothing where none would be seen."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total or None)

        yield tell


def _show(console: Console, calibration: Calibration) -> None:
    from rich.table import Table

    for warning in calibration.warnings:
        console.print(f"warning: {warning}")
    for outcome in calibration.outcomes:
        if outcome.choice is not None:
            on = "of FP32's time" if outcome.milliseconds else "of multiply-adds"
            table = Table(
                title=f"{outcome.precision}: damage of each group alone, and what it saves where all others are INT8",
                title_justify="left",
            )
            for name in ("group", "layers", "labels that change", f"saved, {on}", "INT8"):
                table.add_column(name, justify="left" if name == "group" else "right")
            for group in outcome.choice.groups:
                cells = (f"{group.damage:.2%}", f"{group.saved:+.1%}", "yes" if group.quantised else "no")
                table.add_row(group.name, str(group.layers), *cells)
            console.print(table)
    table = Table(title="beside FP32, on pictures not seen before", title_justify="left")
    for name in ("precision", "labels equal", "worst", "bar", "worst class", "confidence", "verdict"):
        table.add_column(name, justify="left" if name == "precision" else "right")
    for outcome in calibration.outcomes:
        table.add_row(outcome.precision, *_cells(outcome))
    console.print(table)
    for outcome in calibration.outcomes:
        for row in outcome.verdict.labelled:
            console.print(
                f"{outcome.precision} on {row.dataset}, {row.photos} photos: mIoU {row.found:.3f}, fp32 {row.fp32:.3f}"
            )
        if outcome.milliseconds is not None:
            before, after = outcome.milliseconds
            console.print(f"{outcome.precision} takes {after:.1f} ms, fp32 {before:.1f} ms: {before / after:.2f}x")


def _cells(outcome: Outcome) -> tuple[str, ...]:
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


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    run_command(app)


if __name__ == "__main__":
    main()
