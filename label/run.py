"""The run of `ovs-label`: the inputs, the settings, the work here or on a cluster, the report."""

from __future__ import annotations

import os
from contextlib import ExitStack

from ..bundle.bundle import Bundle
from ..bundle.errors import SourceError, UsageError
from ..bundle.vocabulary import parse_stuff
from ..models import default_bundle
from ..runtime.segmenter import Segmenter
from ..runtime.threads.unwinding import unwinding_on_signals
from .inputs.listing import Listing, list_inputs
from .inputs.sampling import Sampling
from .job import LEFT_OUT, LabelJob
from .labeller import Machine, UnitLabeller, load_segmenter, single_threaded_opencv, writer_of
from .options import LabelOptions
from .plan import make_units
from .progress import progress
from .review.review import write_review
from .settings import LabelSettings
from .store import LocalStore, open_store

_INCOMPLETE = 3  # exit code where inputs were left out


def run(options: LabelOptions) -> int:
    """Run `ovs-label` with `options`; returns its exit code. Raises `OvsError`."""
    with unwinding_on_signals(), ExitStack() as closing:
        single_threaded_opencv()
        store = open_store(options.output)
        _refuse_source(options)
        job = LabelJob.open(store)
        listing = list_inputs(
            options.sources,
            recursive=options.recursive,
            without=store.folder if isinstance(store, LocalStore) else None,
        )
        if not len(listing) and job is None:
            reason = f"; {listing.left_out[0]}" if listing.left_out else ""
            if not options.recursive and any(map(os.path.isdir, options.sources)):
                reason += "; --recursive reads sub-folders"
            raise SourceError(f"there is nothing to label in {', '.join(options.sources)[:200]}{reason}")
        machine = Machine(
            None if options.model is None else str(options.model),
            options.threads,
            options.provider,
            None if options.plan is None else str(options.plan),
            options.force,
        )
        segmenter = closing.enter_context(_segmenter(options, machine))
        settings = settings_of(options, segmenter)
        writer = writer_of(settings)
        if job is None:
            job = LabelJob.begin(store, settings)
        else:
            job.go_on(settings)
        handle = job.locked()
        if handle is not None:
            closing.callback(os.close, handle)
        begun = len(job.units)
        new = make_units(listing, job.units, Sampling.parse(settings.every), settings.shard_size)
        job.add(new)
        pending = list(job.pending())
        done = job.done()
        if begun:
            more = f", {sum(unit.expected for unit in new)} new" if new else ""
            print(f"going on with {store.place}: {done} pictures were done{more}", flush=True)
        with progress(sum(unit.expected for unit in job.units), done) as told:
            if options.ray is not None and pending:
                from .cluster import Cluster, label_on_cluster

                cluster = Cluster(options.ray, options.concurrency, options.num_cpus, options.num_gpus)
                label_on_cluster(cluster, job, machine, options.output, told.tell)
            else:
                UnitLabeller(segmenter, settings, store, writer).run(pending, job.state, told.tell)
        if pending or not job.manifest.complete:
            job.finish(writer, listing.left_out)
        return _report(options, job, segmenter, listing)


def _refuse_source(options: LabelOptions) -> None:
    """A folder that is labelled must not be the output: its photos would be taken for what an earlier run wrote."""
    output = os.path.realpath(options.output)
    for source in options.sources:
        if os.path.realpath(source) == output:
            raise UsageError(f"-o {options.output} is what is to be labelled; give another folder")


def _segmenter(options: LabelOptions, machine: Machine) -> Segmenter:
    from ..runtime.inference.refinement import Refinement

    segmenter = load_segmenter(
        machine,
        None,
        options.precision,
        background=options.background,
        threshold=options.threshold,
        task=options.task,
        stuff=parse_stuff(options.stuff),
        exact_words=options.exact_words,
        sensitivity=options.sensitivity.value,
        refinement=Refinement(edges=options.refine_edges, least_region=options.min_region),
    )
    try:
        segmenter.set_classes(options.classes)
    except BaseException:
        segmenter.close()
        raise
    return segmenter


def settings_of(options: LabelOptions, segmenter: Segmenter) -> LabelSettings:
    """The settings that decide the labels; `segmenter` has its classes."""
    active = segmenter.active
    bundle = Bundle.open(default_bundle() if options.model is None else options.model, verify=False)
    return LabelSettings(
        bundle=segmenter.manifest.name,
        digest=bundle.digest,
        precision=segmenter.precision,
        classes=tuple(str(entry) for entry in active.vocabulary.classes[: active.shown]),
        threshold=segmenter.threshold,
        background=options.background,
        sensitivity=segmenter.sensitivity,
        exact_words=options.exact_words,
        task=segmenter.task,
        stuff=parse_stuff(options.stuff),
        refine_edges=options.refine_edges,
        min_region=options.min_region,
        format=options.format,
        shape=options.shape.value,
        simplify=options.simplify,
        photos=options.photos.value,
        every=str(Sampling.parse(options.every)),
        shard_size=options.shard_size,
    )


def _report(options: LabelOptions, job: LabelJob, segmenter: Segmenter, listing: Listing) -> int:
    manifest = job.manifest
    counts = f"{manifest.labelled} pictures labelled, {manifest.bad} inputs left out"
    told = f" (listed in {LEFT_OUT})" if manifest.bad else ""
    print(f"{counts}{told}: {job.store.place}, {options.format}")
    if options.review:
        page = write_review(job, segmenter, options.review, options.review_project)
        print(f"review: {page}")
    return _INCOMPLETE if manifest.bad and not options.skip_errors else 0
