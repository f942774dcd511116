"""`ovs-bench`: figures of a bundle on this machine, as a table and as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..bundle.errors import require
from ..runtime.command_line import run_command
from .accuracy.ask_cli import ask
from .accuracy.cli import accuracy
from .options import Model, Output, Precision, Threads, positive, write_result
from .speed.cli import profile, speed
from .video.cli import video

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)
app.command()(accuracy)
app.command()(ask)
app.command()(speed)
app.command()(video)
app.command()(profile)

_ARMS = ("plain", "diversification", "distillation", "both")  # of the ablation; its module needs torch


@app.command()
def live(
    source: Annotated[str, typer.Option(help="Clip that the model works on, or 'demo'.")] = "demo",
    model: Model = None,
    threads: Threads = 0,
    changes: Annotated[int, typer.Option(min=1, help="Changes of either kind.")] = 60,
    output: Output = None,
) -> None:
    """How soon new classes are seen: ovs-run at work with its web viewer, changed by a client."""
    require("aiohttp", "web")
    from ..models import default_bundle
    from .live.class_change import measure_live

    path = model or default_bundle()
    result = measure_live(path, source, threads, changes, lambda done, of: print(f"{done} of {of}", file=sys.stderr))
    for kind, times in (("new", result.new_names), ("known", result.known_names)):
        print(f"five {kind} names seen: median {times.median:.0f} ms, p95 {times.p95:.0f} ms, max {times.max:.0f} ms")
    print(f"meanwhile {result.fps:.1f} FPS, network {result.model_ms:.1f} ms")
    write_result(output, path, {"live": asdict(result)})


@app.command()
def precisions(
    photo: Annotated[Path, typer.Argument(help="Picture for the timed runs.")],
    model: Model = None,
    threads: Threads = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Bursts of runs of each precision.")] = 12,
    output: Output = None,
) -> None:
    """A calibrated bundle: its verdicts, and INT8 against FP32 on this CPU."""
    from ..models import default_bundle
    from .speed.precisions import measure_precisions, precisions_table

    path = model or default_bundle()
    result = {"precisions": asdict(measure_precisions(path, photo, threads, rounds))}
    print(precisions_table(result))
    write_result(output, path, result)


@app.command()
def pipeline(
    source: Annotated[str, typer.Option(help="Clip to turn into a labelled video, or 'demo'.")] = "demo",
    model: Model = None,
    precision: Precision = "fp32",
    threads: Threads = 0,
    frames: Annotated[int, typer.Option(min=10, help="Of the clip, in each round.")] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="Of network alone, then pipeline.")] = 3,
    output: Output = None,
) -> None:
    """Clip to saved video: how much of the network's own rate is left."""
    from ..models import default_bundle
    from .live.pipeline import measure_pipeline

    path = model or default_bundle()
    result = measure_pipeline(path, source, precision, threads, frames, rounds)
    steps = ", ".join(f"{step} {ms:.1f} ms" for step, ms in result.timings.items())
    print(
        f"pipeline {result.pipeline_fps:.1f} FPS with {result.at_once} frames at a time; network alone "
        f"{result.network_fps:.1f} FPS one after the other ({result.share:.0%}), {result.together_fps:.1f} FPS so many "
        f"at a time ({result.together_share:.0%})"
    )
    print(steps)
    write_result(output, path, {"pipeline": asdict(result)})


@app.command()
def soak(
    clip: Annotated[Path, typer.Argument(help="Video, shown over and over.")],
    minutes: Annotated[float, typer.Option(min=0.6, help="How long.")] = 30.0,
    unpaced: Annotated[bool, typer.Option("--unpaced", help="Frames as fast as they decode.")] = False,
    model: Model = None,
    threads: Threads = 0,
    output: Output = None,
) -> None:
    """Memory, threads, descriptors and age of frames over time, with other classes every five seconds."""
    from ..models import default_bundle
    from .live.soak import ProcessSample, measure_soak

    def tell(sample: ProcessSample) -> None:
        print(
            f"{sample.seconds:7.1f} s  {sample.memory_mib:8.1f} MiB  {sample.threads} threads  "
            f"{sample.descriptors} descriptors  {sample.frames} frames  age {sample.age_ms:.0f} ms",
            file=sys.stderr,
        )

    path = model or default_bundle()
    result = measure_soak(path, clip, minutes, unpaced, threads, tell)
    print(
        f"{result.frames} frames, {result.changes} changes of classes: memory {result.memory_growth:+.1%}, "
        f"threads {result.threads_gained:+d}, descriptors {result.descriptors_gained:+d}, "
        f"age {result.age_ms:.0f} ms ({result.age_ms / result.model_ms:.1f} inference times), "
        f"{result.age_first_ms:.0f} ms at first, {result.age_last_ms:.0f} ms at last"
    )
    write_result(output, path, {"soak": asdict(result)})


@app.command()
def depth(
    model: Annotated[
        list[str], typer.Argument(help="Presets (mini, gkc_r50, gkc_r101, fcclip_r50, …) or checkpoint files.")
    ],
    layers: Annotated[str, typer.Option(help="Decoder depths, comma-separated; those a model lacks are left out.")] = (
        "3,6,9"
    ),
    size: Annotated[str | None, typer.Option(help="Input WIDTHxHEIGHT. Default: that of ovs-export.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of both engines.")] = 2,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each.")] = 7,
    output: Output = None,
) -> None:
    """Parameters, GFLOPs and latency by decoder depth, ONNX Runtime beside eager torch. Presets have random weights."""
    require("torch", "export")
    require("onnx", "export")
    from .speed.depth import measure_depth
    from .speed.models import open_model

    wanted = positive(layers, "--layers", "3,6,9")
    results = []
    for name in model:
        opened = open_model(name)
        most = opened.config.query_decoder.layers
        have = [depth for depth in wanted if depth <= most] if most else [0]
        results += measure_depth(opened, have, size, threads, runs, lambda step: print(step, file=sys.stderr))
    for row in results:
        print(
            f"{row.model} {row.input_size[0]}x{row.input_size[1]} {row.decoder_layers} layers: {row.parameters_m} M, "
            f"{row.gflops} GFLOPs, ONNX Runtime {row.onnx_ms} ms, torch {row.torch_ms} ms, {row.speedup}x"
        )
    write_result(output, None, {"depth": [asdict(row) for row in results]})


@app.command()
def ablation(
    data: Annotated[
        list[str], typer.Option(help="Dataset FOLDER, or FOLDER:WEIGHT to draw it more often. The first is evaluated.")
    ],
    split: Annotated[
        Path | None, typer.Option(help="JSON of unseen categories and reserved names. Default: that of the figures.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the runs are kept; finished ones are not run again.")] = Path(
        "runs/ablation"
    ),
    arms: Annotated[str, typer.Option(help="Which of the arms, comma-separated.")] = ",".join(_ARMS),
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each arm.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="The seeds count from here.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of each run.")] = 500,
    crop: Annotated[int, typer.Option(min=64, help="Side of the training crops, pixels; a multiple of 32.")] = 128,
    view: Annotated[int, typer.Option(min=64, help="Input side at evaluation, pixels; a multiple of 32.")] = 160,
    drawn: Annotated[float, typer.Option(min=0, help="Weight of the classification over drawn names.")] = 2.0,
    region: Annotated[float, typer.Option(min=0, help="Weight of the distance from the teacher.")] = 8.0,
    pairs: Annotated[float, typer.Option(min=0, help="Weight of the relations between regions.")] = 8.0,
    trusted: Annotated[
        int, typer.Option(min=0, help="Distil only regions whose class is among the teacher's so many nearest names.")
    ] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at a time, one thread each.")] = 2,
    output: Output = None,
) -> None:
    """Train plainly, with text diversification, with distillation, with both; compare on categories never trained on."""
    require("torch", "train")
    if output is not None:
        require("matplotlib", "report")  # now, not after an hour
    from ..training.cli import weighted_folder
    from .ablation.ablation import AblationOptions, run_ablation

    options = AblationOptions(
        data=tuple((str(path), weight) for path, weight in map(weighted_folder, data)),
        split=str(split or Path(__file__).with_name("ablation") / "split.json"),
        folder=str(folder), steps=steps, crop=crop, view=view, drawn=drawn, region=region, pairs=pairs,
        trusted=trusted,
    )  # fmt: skip
    chosen = tuple(part.strip() for part in arms.split(","))
    result = run_ablation(options, chosen, range(first_seed, first_seed + seeds), jobs, lambda line: print(line))
    write_result(output, None, result)
    if output is not None:
        from .ablation.plot import plot

        plot(result, output.with_suffix(".png"))
        print(f"wrote {output.with_suffix('.png')}")


@app.command()
def report(
    results: Annotated[Path, typer.Option(help="Folder of result files.")] = Path("benchmarks/results"),
    readme: Annotated[Path | None, typer.Option(help="Put the tables into this file, between its markers.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write tables and plots as one page that needs nothing else.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Write the plots as PNG files into this folder.")] = None,
) -> None:
    """Tables and plots of result files."""
    from .report.report import tables, update

    if html is not None or plots is not None:
        require("matplotlib", "report")
        require("markdown_it", "report")
        from .report.page import write_page, write_plots

        if html is not None:
            write_page(results, html)
            print(f"wrote {html}")
        for path in write_plots(results, plots) if plots is not None else ():
            print(f"wrote {path}")
    if readme is not None:
        print(f"{readme} {'updated' if update(readme, results) else 'is up to date'}")
    elif html is None and plots is None:
        print(tables(results))


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    run_command(app)


if __name__ == "__main__":
    main()
