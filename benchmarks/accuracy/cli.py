"""`ovs-bench accuracy`: how well photos are segmented by what is deployed, or by each stage on the way to it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...bundle.errors import UsageError, require
from ..options import Model, Output, Precision, Threads, write_result
from .progress import progress

if TYPE_CHECKING:
    from .accuracy import AccuracyResult


def accuracy(
    data: Annotated[
        list[str],
        typer.Option(
            help="Data set as it is published, once or more: FOLDER, or SET:FOLDER where one holds several. Sets: "
            "index-masks, coco-panoptic, ade20k-150, ade20k-847, voc-20, voc-21, context-59, context-459, cityscapes."
        ),
    ],
    model: Model = None,
    precision: Precision = "fp32",
    stages: Annotated[
        str | None,
        typer.Option(
            help="Compare the stages of the line: 'all', or some of torch, the bundle's precisions and plan, "
            "comma-separated."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="model.pt that the bundle was made from, for the stage torch.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="TensorRT plan of the bundle, for the stage plan.")] = None,
    synonyms: Annotated[
        bool, typer.Option("--synonyms", help="Ask for each class by all its names, not by the plain one.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, each with the model and --threads.")] = 1,
    threads: Threads = 0,
    split: Annotated[
        Path | None, typer.Option(help="Split file of ovs-train: tells seen from unseen categories in the result.")
    ] = None,
    output: Output = None,
) -> None:
    """IoU, boundary IoU and panoptic quality on validation photos, all names of a data set competing.

    With --output, an interrupted run goes on where it stopped.
    """
    require("PIL", "masks")
    from ...bundle.bundle import Bundle
    from ...data.photo_sets import open_photos
    from ...models import default_bundle
    from ...training.splits import check_known, read_split
    from .counting import Job, forget, measure
    from .stages import choose_stages

    path = model or default_bundle()
    if stages is None and (checkpoint is not None or plan is not None):
        raise UsageError("--checkpoint and --plan are for stages; add --stages all, or leave them out")
    sets = [open_photos(folder) for folder in data]
    names = [photos.name for photos in sets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{names.count(twice[0])} data sets are called {twice[0]!r}, expected a name for each")
    apart = None if split is None else read_split(split)
    if apart is not None:
        check_known(sets, apart)
    bundle = Bundle.open(path, force=True)
    bundle.graph(precision)
    chosen = choose_stages(bundle, stages or precision, checkpoint, plan)
    kept = None if output is None else output.with_name(f".{output.name}.counts")
    results = []
    for photos in sets:
        for line in photos.skipped:
            print(f"{photos.name}: left out: {line}", file=sys.stderr)
        for stage in chosen:
            job = Job(path, stage, photos, threads, synonyms)
            with progress(f"{photos.name}, {stage.name}", len(photos)) as advance:
                results.append(measure(job, jobs, kept, apart, advance))
            if stages is None:
                _print_accuracy(results[-1])
    rows = [asdict(result) for result in results]
    if stages is not None:
        _print_line(results)
        write_result(output, path, {"line": rows})
    else:
        write_result(output, path, {"precision": precision, "accuracy": rows})
    if kept is not None:
        forget(kept)


def _print_accuracy(result: AccuracyResult) -> None:
    print(
        f"{result.dataset}: mIoU {result.miou:.3f} over {result.classes} names, pixel accuracy "
        f"{result.pixel_accuracy:.3f}, frequency-weighted IoU {result.frequency_weighted:.3f}, boundary IoU "
        f"{result.boundary_iou:.3f}, {result.photos} photos"
    )
    if (quality := result.panoptic) is not None:
        sides = [f"{name} {value:.3f}" for name in ("things", "stuff") if (value := getattr(quality, name)) is not None]
        print(f"  PQ {quality.pq:.3f} ({', '.join(sides)}), SQ {quality.sq:.3f}, RQ {quality.rq:.3f}")
    if result.split is not None:
        print(
            f"  seen {result.split.seen:.3f}, unseen {result.split.unseen:.3f}, "
            f"harmonic mean {result.split.harmonic:.3f}"
        )


def _print_line(results: list[AccuracyResult]) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..report.accuracy_tables import LINE_HEADER, line_rows

    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(*LINE_HEADER)
    for row in line_rows([asdict(result) for result in results]):
        table.add_row(*row)
    console.print(table)
