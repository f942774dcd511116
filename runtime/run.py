"""The run of `ovs-run`: opens source, segmenter and sinks as the options say, runs the pipeline, reports."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from ..bundle.bundle import Bundle
from ..bundle.errors import UsageError, note
from ..bundle.vocabulary import parse_stuff
from ..models import default_bundle
from .capture.loop import LoopedSource
from .capture.options import CaptureOptions, parse_size
from .capture.registry import open_source
from .capture.source import Source
from .draw.overlay import Style
from .events.evidence import waiting_rules
from .events.opening import EventOutputs, WatchRequest, open_watch
from .events.watch import EventWatch
from .examples.command_line import ExampleEntry, show_examples
from .inference.explain import nothing_found, why
from .inference.keyframes import Keyframes
from .inference.refinement import Refinement
from .inference.smoothing import STRENGTH, TemporalSmoother
from .interaction import Interaction
from .options import NO_OUTPUT, WEB_ADDRESS, RunOptions, parse_point
from .pipeline import Summary
from .pipeline import run as run_pipeline
from .segmenter import Segmenter
from .sinks.desktop.display import missing as missing_window
from .sinks.found import FoundSink
from .sinks.last_frame import LastFrame
from .sinks.output_files import refuse_inputs
from .sinks.registry import open_json_sink, open_mask_sink, open_sink
from .sinks.sink import Sink, SinkRequest
from .sinks.source_events import LossNotes
from .viewer.sink import WebOptions
from .vocabulary.live import read_presets
from .vocabulary.many_names import many_names
from .vocabulary.reading import Reading

_MOST_NOTES = 5  # lines about names
_INCOMPLETE = 3  # exit code where photos or frames were skipped, or a video ends too early


def run(options: RunOptions) -> int:
    """Run `ovs-run` with `options`; returns its exit code. Raises `OvsError`."""
    if options.list_names:
        _list_names(options)
        return 0
    if options.config is not None or len(options.camera) > 1:
        from .cameras.run import run_cameras

        return run_cameras(options)
    presets = read_presets(options.preset)
    with ExitStack() as closing:
        frames, web = _open_frames(options, closing)
        looped = isinstance(frames, LoopedSource)
        segmenter = closing.enter_context(_load(options, frames))
        if options.why is not None and frames.total != 1:
            raise UsageError("--why is for one photo; name it with --source")
        _set_first_classes(segmenter, options)
        segmenter.smoother = _smoother(options.smooth, segmenter.task, frames)
        # The page lists classes and figures itself; only a saved picture needs them written into it.
        on_page_only = web is not None and not options.writes_files
        watch, events = _open_watch(options, frames, closing, page=web is not None)
        style = Style(
            opacity=options.opacity,
            names=options.names,
            legend=not on_page_only if options.legend is None else options.legend,
            figures=not on_page_only if options.badge is None else options.badge,
            places=None if watch is None or on_page_only else watch.places,
        )
        interaction = Interaction.of(segmenter, style, presets, watch)
        closing.callback(interaction.close)
        if options.watch_classes is not None:
            interaction.vocabulary.watch(options.watch_classes, lambda why: note(f"the classes are unchanged: {why}"))
        if watch is not None:
            for line in waiting_rules(watch.engine.config.rules, segmenter.active.classes):
                note(line)
        sinks = _open_sinks(options, frames, web, interaction, events)
        watched = LastFrame()
        summary = _process(options, frames, segmenter, [*sinks, watched], interaction)
        if watched.last is not None and not frames.live and not looped:
            frame, prediction = watched.last
            if not watched.found:
                note(nothing_found(segmenter, frame.image))
            if options.why is not None:
                for line in why(segmenter, frame.image, prediction, parse_point(options.why)):
                    print(line, file=_text_output(options, events))
    _report(options, summary, frames, events)
    # What was written is complete, but it is not all that was asked for.
    if summary.stopped and not frames.live and not looped:
        return 128 + summary.signal
    incomplete = frames.skipped > 0 or frames.truncated is not None
    return _INCOMPLETE if incomplete and not options.skip_errors else 0


def _open_watch(
    options: RunOptions, source: Source, closing: ExitStack, *, page: bool
) -> tuple[EventWatch | None, EventOutputs]:
    if not options.watches:
        return None, EventOutputs()
    events, command = options.events, options.on_event
    if events not in (None, "", "-"):
        refuse_inputs(Path(str(events)), (*source.files, *_read(options)), "--events")
    request = WatchRequest(
        options.zones, options.rule, events, options.mqtt, options.webhook, command, page, source.live
    )
    watch, outputs = open_watch(request, closing)
    if outputs.standard_output and options.json == "-":
        raise UsageError("events and --json are both standard output; give one of them a file")
    return watch, outputs


def _text_output(options: RunOptions, events: EventOutputs) -> TextIO:
    """Where text for people goes: not between lines of JSON."""
    return sys.stderr if options.json == "-" or events.standard_output else sys.stdout


def _list_names(options: RunOptions) -> None:
    """Print the names the model was trained with: one class per line, as `--classes @FILE` reads them."""
    bundle = Bundle.open(default_bundle() if options.model is None else options.model)
    for entry in bundle.manifest.training_vocabulary:
        print("|".join(entry))
    if not bundle.manifest.training_vocabulary:
        note(f"{bundle.path} lists no names; its text encoder was trained with pictures and takes any")


def _set_first_classes(segmenter: Segmenter, options: RunOptions) -> None:
    """The classes that are named and those that are shown; what the user should know of them is said."""
    if options.class_list is not None:
        with _progress("encoding names") as tell:
            segmenter.set_classes(options.class_list, tell)
    show_examples(segmenter, options.example)
    if options.save_classes is not None:
        segmenter.save_classes(options.save_classes)
    if warning := many_names(segmenter.manifest, segmenter.active):
        note(warning)
    _note_doubtful(segmenter.active.readings)


def _note_doubtful(readings: Sequence[Reading]) -> None:
    """Say of names that the model was not trained with what they are read as; at most a few lines."""
    doubtful = [reading for reading in readings if reading.doubtful]
    for reading in doubtful[:_MOST_NOTES]:
        note(str(reading))
    if len(doubtful) > _MOST_NOTES:
        note(f"{len(doubtful) - _MOST_NOTES} more names were never trained; --json lists them")


def _open_frames(options: RunOptions, closing: ExitStack) -> tuple[Source, str | None]:
    """The source, and the address of the web page if there is one. A recording on a page is played in a loop."""
    capture = CaptureOptions(
        parse_size(options.size),
        options.rate,
        options.mjpg,
        options.flip,
        options.reconnect,
        options.fps,
        options.recursive,
    )
    camera = options.camera[0] if options.camera else None
    frames = open_source(options.inputs, camera, capture)
    web = options.web
    if web is None and options.only_watched and frames.live and missing_window():
        web = WEB_ADDRESS
    if web is not None and not options.writes_files and not frames.live and options.inputs != "-":
        frames.close()
        frames = LoopedSource(lambda: open_source(options.inputs, camera, capture))
    closing.callback(frames.close)
    return frames, web


def _load(options: RunOptions, frames: Source) -> Segmenter:
    return Segmenter.load(
        options.model,
        options.precision,
        options.threads,
        options.provider,
        background=options.background,
        threshold=options.threshold,
        task=options.task,
        stuff=parse_stuff(options.stuff),
        exact_words=options.exact_words,
        sensitivity=options.sensitivity.value,
        refinement=Refinement(edges=options.refine_edges, least_region=options.min_region),
        plan=options.plan,
        force=options.force,
        side_by_side=not frames.live and frames.total != 1 and options.keyframes == 1,
    )


def _smoother(strength: float | None, task: str, frames: Source) -> TemporalSmoother | None:
    if strength is None:
        return TemporalSmoother(STRENGTH) if frames.moving and task == "semantic" else None
    return TemporalSmoother(strength)


def _read(options: RunOptions) -> list[Path]:
    """Files besides the source that are read, which no output may replace."""
    lists = (options.classes or "", *options.preset)
    names = [word.strip()[1:] for text in lists for word in (text, *text.split(",")) if word.strip().startswith("@")]
    files = [Path(name) for name in names]
    files += [path for path in (options.watch_classes, options.zones) if path is not None]
    return files + [path for entry in options.example for path in ExampleEntry.parse(entry).files]


def _open_sinks(
    options: RunOptions, source: Source, web: str | None, interaction: Interaction, events: EventOutputs
) -> list[Sink]:
    """Sinks in the order in which they get each frame; none is left open if one cannot be opened."""
    sinks: list[Sink] = []
    inputs = _read(options)
    with ExitStack() as undo:

        def add(sink: Sink) -> None:
            sinks.append(sink)
            undo.callback(sink.close)

        if options.save is not None:
            add(open_sink(SinkRequest(options.save, source, options.overwrite), inputs))
        if options.json is not None:
            add(open_json_sink(SinkRequest(options.json, source, options.overwrite), inputs, options.mask_form))
        if options.save_masks is not None:
            add(open_mask_sink(SinkRequest(options.save_masks, source, options.overwrite), inputs))
        if web is not None:
            from .viewer.sink import WebSink

            page = WebOptions(web, options.token, options.recordings, Path(source.name).name)
            viewer = WebSink(page, interaction)
            add(viewer)
            print(f"viewer: {viewer.url}", file=sys.stderr, flush=True)
        wanted = options.show is None and not sinks and not events.standard_output
        if options.show or (wanted and missing_window() is None):
            from .sinks.desktop.window import WindowSink

            add(WindowSink(interaction, wait=not source.moving))
        if not sinks and not source.moving and not events.standard_output:
            add(FoundSink())
        elif not sinks and not events.names:
            note(NO_OUTPUT)
        if source.live:
            add(LossNotes(note))
        undo.pop_all()
    return sinks


def _process(
    options: RunOptions, frames: Source, segmenter: Segmenter, sinks: list[Sink], interaction: Interaction
) -> Summary:
    limit = options.max_frames
    total = frames.total if limit is None else min(limit, frames.total or limit)
    with _progress("frames") as tell:
        return run_pipeline(
            frames,
            Keyframes(segmenter, options.keyframes),
            sinks,
            lambda: interaction.controls.style,
            limit,
            lambda done: tell(done, total),
            interaction.watch,
        )


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """`tell(done, total)` moves a progress bar on a terminal, and does nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report(options: RunOptions, summary: Summary, frames: Source, events: EventOutputs) -> None:
    printed = ["JSON lines on standard output"] if options.json == "-" else []
    sent = [name if name.startswith("events ") else f"events to {name}" for name in events.names]
    where = ", ".join((*summary.places, *printed, *sent)) or "nothing saved (--save out, --json out.jsonl)"
    plural = "" if summary.frames == 1 else "s"
    live = summary.age_ms is not None
    age = f", frame age {summary.age_ms:.0f} ms median, {summary.dropped} stale frames dropped" if live else ""
    together = f", {summary.at_once} frames at a time" if summary.at_once > 1 else ""
    skipped = f", {frames.skipped} skipped" if frames.skipped else ""
    print(
        f"{summary.frames} frame{plural}{skipped}, {summary.fps:.1f} FPS end to end, "
        f"model {summary.model_ms:.1f} ms median{together}{age}: {where}",
        file=_text_output(options, events),
    )
