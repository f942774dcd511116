"""What `ovs-bench accuracy` and `ovs-bench ask` do: measure, print, write the result."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...bundle.errors import UsageError, require
from ..result_file import write_result
from .options import AccuracyOptions, AskOptions
from .progress import progress

if TYPE_CHECKING:
    from ...runtime.segmenter import Segmenter
    from .accuracy import AccuracyResult
    from .queries import Query, QuerySet


def run_accuracy(options: AccuracyOptions) -> int:
    """`ovs-bench accuracy`; returns its exit code."""
    require("PIL", "masks")
    if options.recipe is not None:
        return _run_published(options)
    from ...bundle.bundle import Bundle
    from ...data.photo_sets import open_photos
    from ...models import default_bundle
    from ...runtime.inference.refinement import UNREFINED, Refinement
    from ...training.splits import check_known, read_split
    from .counting import Job, forget, measure
    from .stages import choose_stages

    path = options.model or default_bundle()
    sets = [open_photos(folder) for folder in options.data]
    names = [photos.name for photos in sets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{names.count(twice[0])} data sets are called {twice[0]!r}, expected a name for each")
    split = None if options.split is None else read_split(options.split)
    if split is not None:
        check_known(sets, split)
    bundle = Bundle.open(path, force=True)
    bundle.graph(options.precision)
    chosen = choose_stages(bundle, options.stages or options.precision, options.checkpoint, options.plan)
    refinement = Refinement(edges=options.refine_edges, least_region=options.min_region)
    output = options.output
    kept = None if output is None else output.with_name(f".{output.name}.counts")
    results = []
    for photos in sets:
        _tell_skipped(photos.name, photos.skipped)
        for stage in chosen:
            job = Job(path, stage, photos, options.threads, options.synonyms, refinement)
            with progress(f"{photos.name}, {stage.name}", len(photos)) as advance:
                results.append(measure(job, options.jobs, kept, split, advance))
            if options.stages is None:
                _print_accuracy(results[-1])
    rows = [asdict(result) for result in results]
    refined = {} if refinement == UNREFINED else {"refinement": asdict(refinement)}
    if options.stages is not None:
        _print_line(results)
        write_result(output, path, {**refined, "line": rows})
    else:
        write_result(output, path, {"precision": options.precision, **refined, "accuracy": rows})
    if kept is not None:
        forget(kept)
    return 0


def _run_published(options: AccuracyOptions) -> int:
    for module in ("torch", "open_clip"):
        require(module, "export")
    from ...data.photo_sets import find_readers, open_photos
    from ...segmenter.clip_dense.config import DenseRecipe
    from .published import PublishedClip, default_names, measure_published, read_names, settings_of

    assert options.clip is not None
    recipe = DenseRecipe(options.dense.value)
    sets = [(open_photos(given), settings_of(recipe, find_readers(given, "val")[0][0].name)) for given in options.data]
    names = [
        default_names(photos, settings) if options.names is None else read_names(options.names, photos.classes)
        for photos, settings in sets
    ]
    clip = PublishedClip(options.clip, recipe)
    rows = []
    for (photos, settings), words in zip(sets, names, strict=True):
        _tell_skipped(photos.name, photos.skipped)
        with progress(f"{photos.name}, {recipe.value}", len(photos)) as advance:
            result = measure_published(clip, photos, words, settings, on_photo=lambda: advance(1))
        _print_accuracy(result)
        rows.append({**asdict(result), "settings": asdict(settings), "names": words})
    write_result(options.output, None, {"clip": options.clip, "recipe": recipe.value, "published": rows})
    return 0


def run_ask(options: AskOptions) -> int:
    """`ovs-bench ask`; returns its exit code."""
    require("PIL", "masks")
    from ...data.photo_sets import open_photos
    from ...models import default_bundle
    from ...runtime.segmenter import Segmenter
    from ..report.query_tables import query_table, weakest_classes
    from .queries import SENSITIVITIES, THRESHOLDS, QuerySet, measure_queries

    path = options.model or default_bundle()
    sets = [open_photos(folder) for folder in options.data]
    results: list[dict[str, Any]] = []
    with Segmenter.load(path, options.precision, options.threads) as segmenter:
        for found in sets:
            _tell_skipped(found.name, found.skipped)
            chosen = replace(found, files=found.files[: options.photos]) if options.photos else found
            queries = QuerySet(chosen, synonyms=options.synonyms)
            with progress(chosen.name, len(chosen)) as advance:
                scores, single = measure_queries(
                    segmenter,
                    queries,
                    sensitivities=() if options.quick else SENSITIVITIES,
                    thresholds=() if options.quick else THRESHOLDS,
                    on_photo=partial(advance, 1),
                )
            results += [asdict(score) for score in scores.values()]
            if options.sheet is not None:
                _write_sheet(Path(options.sheet.format(data=chosen.name)), segmenter, queries, single)
    document = {"precision": options.precision, "synonyms": options.synonyms, "ask": results}
    print(query_table({"bundle": segmenter.manifest.name, **document}))
    for result in results:
        print(f"\n{weakest_classes(result)}")
    write_result(options.output, path, document)
    return 0


def _write_sheet(target: Path, segmenter: Segmenter, queries: QuerySet, single: list[Query]) -> None:
    from ..picture_file import write_picture_file
    from .query_sheet import contact_sheet, worst

    sheet = contact_sheet(segmenter, queries, worst(single))
    if sheet is not None:
        write_picture_file(target, sheet)
        print(f"wrote {target}")


def _tell_skipped(dataset: str, skipped: tuple[str, ...]) -> None:
    for line in skipped:
        print(f"{dataset}: left out: {line}", file=sys.stderr)


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
