"""`ovs-run`: segment a photo, a folder, a video or a camera by the names of what to look for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from ..bundle.errors import UsageError, exit_on_error

# Everything heavy is imported once the options are known to be sound: --help must not wait for OpenCV.
if TYPE_CHECKING:
    from .capture.sources import Source
    from .inference.smoothing import TemporalSmoother
    from .interaction import Interaction
    from .pipeline import Summary
    from .sinks.sinks import Sink
    from .viewer.sink import WebOptions

_MOST_STUFF = 10_000  # words of --stuff

_WEB_ADDRESS = "127.0.0.1:8080"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class _Command(TyperCommand):
    """`--web` may stand alone; Typer's options either need a value or take none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        following = [*args[1:], "-"]
        given = zip(args, following, strict=True)
        complete = [(arg, _WEB_ADDRESS) if arg == "--web" and after.startswith("-") else (arg,) for arg, after in given]
        return super().parse_args(ctx, [arg for entry in complete for arg in entry])


@app.command(cls=_Command)
def run(
    classes: Annotated[
        str | None,
        typer.Option(
            help='What to look for: "person,bike|bicycle" (| gives synonyms), or @file with one class a line.'
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="A photo, a folder, 'shots/*.jpg', a video file, - for one on standard input, or 'demo'."),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(
            help="A live source: 0, /dev/video2, csi://0, screen://, or an rtsp, http, tcp, udp, srt or rtmp URL."
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Of the camera's pictures: 1280x720.")] = None,
    rate: Annotated[float | None, typer.Option(help="Pictures a second of the camera.")] = None,
    mjpg: Annotated[bool, typer.Option("--mjpg", help="Compressed by the camera: more pictures through USB.")] = False,
    flip: Annotated[str, typer.Option(help="Live pictures: none, horizontal, vertical or both.")] = "none",
    reconnect: Annotated[
        bool, typer.Option("--reconnect/--no-reconnect", help="Whether a lost live source is opened again.")
    ] = True,
    model: Annotated[Path | None, typer.Option(help="Bundle folder NAME.ovs. Default: the embedded one.")] = None,
    save: Annotated[
        str | None,
        typer.Option(help="Annotated output: out.mp4 (video), out.png (one photo), out (folder of pictures)."),
    ] = None,
    json: Annotated[str | None, typer.Option(help="One JSON line per frame: out.jsonl, or - .")] = None,
    show: Annotated[
        bool | None,
        typer.Option("--show/--no-show", help="A window. Default: if there is a display and nothing is saved."),
    ] = None,
    web: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:PORT]",
            help=f"A page with the live picture; alone, {_WEB_ADDRESS}. Default: for a camera without a display, "
            "if nothing is saved. Files are then shown over and over.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar="OVS_TOKEN", help="What the page asks for; made if other machines can connect."),
    ] = None,
    recordings: Annotated[Path, typer.Option(help="Folder for what is recorded from the page.")] = Path("recordings"),
    watch_classes: Annotated[
        Path | None, typer.Option(help="In place of --classes: a list of classes, read again when it changes.")
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(help="Classes for the keys 1 to 9, once for each; @file has one list a line."),
    ] = None,
    background: Annotated[
        str,
        typer.Option(help='What competes unseen: auto (the training names), none, or names such as "wall,floor".'),
    ] = "auto",
    exact_words: Annotated[
        bool,
        typer.Option(
            "--exact-words",
            help="Take words as they are; a model with a sentence encoder reads new ones through trained ones.",
        ),
    ] = False,
    threshold: Annotated[
        float, typer.Option(help="Least confidence of a labelled pixel, 0 to 1; segments follow the published rule.")
    ] = 0.3,
    task: Annotated[
        str,
        typer.Option(help="semantic (classes), panoptic (classes and instances), or auto: what the bundle can do."),
    ] = "auto",
    stuff: Annotated[
        str | None,
        typer.Option(help='Panoptic: classes without instances, "sky,road", besides those the bundle knows as such.'),
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option(
            help="Steadiness of labels where the picture stands still, 0 (off) to 1. Default: 0.9; photos, 0."
        ),
    ] = None,
    keyframes: Annotated[
        int, typer.Option(help="The network sees every Nth frame; in between, labels move along with the picture.")
    ] = 1,
    opacity: Annotated[float, typer.Option(help="Of the colours, 0 to 1.")] = 0.5,
    precision: Annotated[str, typer.Option(help="Which of the bundle's precisions to run.")] = "fp32",
    force: Annotated[
        bool, typer.Option("--force", help="Run a precision that failed its comparison with fp32 all the same.")
    ] = False,
    provider: Annotated[
        str,
        typer.Option(help="auto, cpu, cuda, or tensorrt: the cached plan of ovs-build, built now if there is none."),
    ] = "auto",
    plan: Annotated[
        Path | None, typer.Option(help="A TensorRT plan that ovs-build -o wrote, to run the model.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of the network; 0: one per core.")] = 0,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
) -> None:
    """Segment pictures by the names of what to look for."""
    if provider not in ("auto", "cpu", "cuda", "tensorrt"):
        raise UsageError(f"the provider is {provider!r}, expected auto, cpu, cuda or tensorrt")
    if task not in ("auto", "semantic", "panoptic"):
        raise UsageError(f"the task is {task!r}, expected auto, semantic or panoptic")
    if (classes is None) == (watch_classes is None):
        found = "neither" if classes is None else "both"
        raise UsageError(f'{found} of --classes and --watch-classes given, expected one: --classes "person,bike"')

    from ..bundle.vocabulary import parse_classes
    from .capture.loop import Repeated
    from .capture.options import CaptureOptions, parse_size
    from .capture.sources import open_source
    from .draw.overlay import Style
    from .inference.keyframes import Keyframes
    from .interaction import Interaction
    from .pipeline import run as run_pipeline
    from .segmenter import Segmenter
    from .viewer.sink import WebOptions
    from .vocabulary.live import read_presets

    options = CaptureOptions(parse_size(size), rate, mjpg, flip, reconnect)  # type: ignore[arg-type]
    presets = read_presets(preset or ())
    words = [name for entry in parse_classes(stuff, _MOST_STUFF) for name in entry.names] if stuff is not None else []
    frames = open_source(source, camera, options)
    saves = save is not None or json is not None
    if web is None and show is None and not saves and frames.live and _no_display():
        web = _WEB_ADDRESS
    if repeats := web is not None and not saves and not frames.live and source != "-":
        frames.close()
        frames = Repeated(lambda: open_source(source, camera, options))
    # The page lists classes and figures itself; only a saved picture needs them written into it.
    bare = web is not None and not saves
    style = Style(opacity=opacity, legend=not bare, figures=not bare)
    page = WebOptions(web, token, recordings, Path(frames.name).name) if web is not None else None
    try:
        with Segmenter.load(
            model,
            precision,
            threads,
            provider,  # type: ignore[arg-type]
            background,
            threshold,
            task,  # type: ignore[arg-type]
            words,
            plan,
            force,
            exact_words,
            side_by_side=not frames.live and frames.total != 1 and keyframes == 1,
        ) as segmenter:
            with _progress("encoding names") as tell:
                segmenter.set_classes(classes if classes is not None else f"@{watch_classes}", tell)
            segmenter.smoother = _smoother(smooth, segmenter.task, frames.moving)
            steps = Keyframes(segmenter, keyframes)
            interaction = Interaction.of(segmenter, style, presets)
            try:
                if watch_classes is not None:
                    interaction.vocabulary.watch(
                        watch_classes, lambda why: _note(f"the classes stay as they are: {why}")
                    )
                sinks = _open_sinks(frames, save, json, show, page, interaction)
                total = frames.total if max_frames is None else min(max_frames, frames.total or max_frames)
                with _progress("frames") as tell:
                    summary = run_pipeline(
                        frames,
                        steps,
                        sinks,
                        lambda: interaction.controls.style,
                        max_frames,
                        lambda n: tell(n, total),
                    )
            finally:
                interaction.close()
    finally:
        frames.close()
    _report(summary, to_stderr=json == "-")
    if summary.stopped and not frames.live and not repeats:
        raise typer.Exit(130)  # what was written is complete, but it is not all that was asked for


def _smoother(strength: float | None, task: str, moving: bool) -> TemporalSmoother | None:
    from .inference.smoothing import STRENGTH, TemporalSmoother

    if strength is None:
        return TemporalSmoother(STRENGTH) if moving and task == "semantic" else None
    if strength and task == "panoptic":
        raise UsageError("--smooth is for semantic segmentation; use --task semantic, or leave it out")
    return TemporalSmoother(strength)


def _no_display() -> bool:
    from .sinks.window import missing

    return missing() is not None


def _open_sinks(
    source: Source,
    save: str | None,
    json: str | None,
    show: bool | None,
    page: WebOptions | None,
    interaction: Interaction,
) -> list[Sink]:
    from .sinks.sinks import JsonSink, open_saver

    sinks: list[Sink] = []
    try:
        if save is not None:
            sinks.append(open_saver(save, source))
        if json is not None:
            sinks.append(JsonSink(json))
        if page is not None:
            from .viewer.sink import WebSink

            viewer = WebSink(page, interaction)
            sinks.append(viewer)
            print(f"viewer: {viewer.url}", file=sys.stderr, flush=True)
        if show is None:
            show = not sinks and not _no_display()
        if show:
            from .sinks.window import WindowSink

            sinks.append(WindowSink(wait=not source.moving, interaction=interaction))
        if not sinks:
            _note("no picture or result will be seen; add --web to look at a page, or --save out or --json out.jsonl")
    except BaseException:
        for sink in sinks:
            sink.close()
        raise
    return sinks


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """`tell(done, total)` moves a bar on a terminal, and does nothing where none would be seen."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _note(text: str) -> None:
    """One line to a person who is looking on; a progress bar that is being drawn makes room for it."""
    print(f"note: {text}", file=sys.stderr, flush=True)


def _report(summary: Summary, to_stderr: bool) -> None:
    where = ", ".join(summary.places) if summary.places else "nothing saved (--save out, --json out.jsonl)"
    plural = "" if summary.frames == 1 else "s"
    live = summary.age_ms is not None
    age = f", age {summary.age_ms:.0f} ms median, {summary.dropped} passed over for newer ones" if live else ""
    together = f", {summary.at_once} frames at a time" if summary.at_once > 1 else ""
    print(
        f"{summary.frames} frame{plural}, {summary.fps:.1f} FPS end to end, "
        f"model {summary.model_ms:.1f} ms median{together}{age}: {where}",
        file=sys.stderr if to_stderr else sys.stdout,
    )


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    exit_on_error(app)
