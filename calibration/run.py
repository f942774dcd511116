"""What `ovs-calibrate` does with its options: calibrate, print the tables, fail where a precision failed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from rich.console import Console

from ..bundle.bundle import Bundle
from ..bundle.errors import ParityError, require
from ..bundle.processor import Processor, processor
from ..runtime.threads.unwinding import unwinding_on_signals
from .options import CalibrateOptions, TargetCpu

if TYPE_CHECKING:
    from .quantize.calibrate import Tell


def run(options: CalibrateOptions) -> int:
    """Run the command; returns its exit code. Raises `ParityError` for a precision below its threshold."""
    for module in ("onnx", "onnxruntime"):
        require(module, "calibrate")

    from .quantize.calibrate import CalibrationOptions, calibrate
    from .quantize.report import show

    console = Console(soft_wrap=True, highlight=False)
    target = options.bundle if options.output is None else options.output
    settings = CalibrationOptions(
        images=options.images,
        held_out=options.held_out,
        precisions=options.precisions,
        bars={"fp16": options.fp16_bar, "int8": options.int8_bar, "int8-cpu": options.int8_bar},
        method=options.method.value,
        pictures=options.pictures,
        labelled=options.labels,
        without=frozenset(options.leave_out),
        processor=processor() if options.cpu is TargetCpu.auto else cast("Processor", options.cpu.value),
        threads=options.threads,
    )
    with unwinding_on_signals(), _progress() as tell:
        result = calibrate(Bundle.open(options.bundle), target, settings, tell)
    show(console, result)
    console.print(f"{target}: {', '.join(result.manifest.precisions)}")
    failed = [outcome for outcome in result.outcomes if not outcome.verdict.passed]
    if failed:
        verdict = failed[0].verdict
        found = f"{verdict.agreement:.2%} of the labels are those of fp32, expected {verdict.bar:.2%}"
        raise ParityError(
            f"{', '.join(outcome.precision for outcome in failed)} failed: "
            f"{found if verdict.finite else 'it gives numbers that are not finite'}; the bundle keeps it with that "
            "verdict, and ovs-run refuses it without --force"
        )
    return 0


@contextmanager
def _progress() -> Iterator[Tell]:
    """A progress bar for each step on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bars.update(task, description=what, completed=done, total=total or None)

        yield tell
