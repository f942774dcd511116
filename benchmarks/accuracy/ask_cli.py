"""`ovs-bench ask`: is a thing found by somebody who types its name."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ...bundle.errors import require
from ..options import Model, Output, Precision, Threads, write_result
from .progress import progress


def ask(
    data: Annotated[
        list[str],
        typer.Option(help="Labelled photos, once or more: FOLDER, or SET:FOLDER, as for ovs-bench accuracy."),
    ],
    model: Model = None,
    precision: Precision = "fp32",
    threads: Threads = 0,
    synonyms: Annotated[
        bool, typer.Option("--synonyms", help="Ask for each class by all its names, not by the plain one.")
    ] = False,
    photos: Annotated[int, typer.Option(min=0, help="Use the first N photos of each data set; 0: all.")] = 0,
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of the worst answers; {data} becomes the set's name.")
    ] = None,
    output: Output = None,
) -> None:
    """Names asked for alone and in lists of five: share found, share with nothing painted, false alarms."""
    require("PIL", "masks")
    from ...data.photo_sets import open_photos
    from ...models import default_bundle
    from ...runtime.segmenter import Segmenter
    from ..report.query_tables import query_table, weakest_classes
    from .queries import QuerySet, measure_queries
    from .query_sheet import contact_sheet, worst, write_sheet

    path = model or default_bundle()
    sets = [open_photos(folder) for folder in data]
    results = []
    with Segmenter.load(path, precision, threads) as segmenter:
        for found in sets:
            for line in found.skipped:
                print(f"{found.name}: left out: {line}", file=sys.stderr)
            chosen = replace(found, files=found.files[:photos]) if photos else found
            queries = QuerySet(chosen, synonyms=synonyms)
            with progress(chosen.name, len(chosen)) as advance:
                scores, single = measure_queries(segmenter, queries, on_photo=lambda: advance(1))
            results += [asdict(score) for score in scores.values()]
            picture = None if sheet is None else contact_sheet(segmenter, queries, worst(single))
            if sheet is not None and picture is not None:
                target = Path(str(sheet).format(data=chosen.name))
                write_sheet(target, picture)
                print(f"wrote {target}")
    document = {"precision": precision, "synonyms": synonyms, "ask": results}
    print(query_table({"bundle": segmenter.manifest.name, **document}))
    for result in results:
        print(f"\n{weakest_classes(result)}")
    write_result(output, path, document)
