"""`ovs-bench`: the command line. It parses; `options.py` of a folder declares options, `command.py` does the work."""

from __future__ import annotations

import typer

from ..runtime.command_line import add_command, run_command
from .ablation.options import AblationCommand
from .accuracy.options import AccuracyOptions, AskOptions
from .examples.options import ExamplesOptions
from .gpu.options import GpuOptions
from .live.options import CamerasOptions, LiveOptions, PipelineOptions, ServingOptions, SoakOptions
from .report.options import ReportOptions
from .speed.options import DepthOptions, PrecisionsOptions, ProfileOptions, SpeedOptions
from .video.options import VideoOptions

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure accuracy, speed, video consistency and live behaviour; results are JSON files and tables."""


# Every command imports its work when it runs: --help must not wait for OpenCV or torch.


def accuracy(options: AccuracyOptions) -> int:
    """IoU, boundary IoU and panoptic quality on validation photos, all names of a data set competing.

    With --output, an interrupted run continues where it stopped.
    """
    from .accuracy.command import run_accuracy

    return run_accuracy(options)


def ask(options: AskOptions) -> int:
    """Names asked for alone and in lists of five: share found, share with nothing painted, false alarms."""
    from .accuracy.command import run_ask

    return run_ask(options)


def examples(options: ExamplesOptions) -> int:
    """Classes shown by n examples each, beside the same classes by name: mean IoU over draws of the examples."""
    from .examples.command import run

    return run(options)


def speed(options: SpeedOptions) -> int:
    """Latency of each stage of a frame: bundles, precisions, engines, class counts and other models, interleaved."""
    from .speed.command import run_speed

    return run_speed(options)


def profile(options: ProfileOptions) -> int:
    """The network's slowest layers by the names of their torch modules, in ONNX Runtime on the CPU."""
    from .speed.command import run_profile

    return run_profile(options)


def precisions(options: PrecisionsOptions) -> int:
    """A calibrated bundle: parity of its precisions, and INT8 against FP32 on this CPU."""
    from .speed.command import run_precisions

    return run_precisions(options)


def depth(options: DepthOptions) -> int:
    """Parameters, GFLOPs and latency by decoder depth, ONNX Runtime beside eager torch. Presets have random weights."""
    from .speed.command import run_depth

    return run_depth(options)


def video(options: VideoOptions) -> int:
    """Foreground IoU and flicker of clips; IoU, consistency and panoptic quality of labelled sequences.

    Each without and with temporal smoothing, and by key-frame interval.
    """
    from .video.command import run_video

    return run_video(options)


def live(options: LiveOptions) -> int:
    """Latency of a class change: ovs-run with its web page, changed by an HTTP client."""
    from .live.command import run_live

    return run_live(options)


def pipeline(options: PipelineOptions) -> int:
    """Clip to saved video: throughput of the whole pipeline as a share of the network's own throughput."""
    from .live.command import run_pipeline

    return run_pipeline(options)


def soak(options: SoakOptions) -> int:
    """Memory, threads, open files and frame age over time, with a class change every five seconds.

    With --cameras, of several synthetic cameras, one of which stalls, floods or dies now and then.
    """
    from .live.command import run_soak

    return run_soak(options)


def serving(options: ServingOptions) -> int:
    """Load test of ovs-serve: many clients with classes of their own, hostile requests among them; exit code 1 if wrong.

    Every answer is compared with what Segmenter.predict gives for that picture and those classes.
    """
    from .live.command import run_serving

    return run_serving(options)


def cameras(options: CamerasOptions) -> int:
    """Several cameras on one network: throughput and frame age beside one camera; faults of one, seen by the others."""
    from .live.command import run_cameras

    return run_cameras(options)


def gpu(options: GpuOptions) -> int:
    """Everything that only a GPU can show, in one command: parity, latency, roofline share, memory, power.

    Detects what is installed, runs each part within --minutes, and continues where an interrupted run stopped. Exit
    code 3 if a backend fails its parity check.
    """
    from .gpu.command import run_gpu

    return run_gpu(options)


def ablation(options: AblationCommand) -> int:
    """Train without, with text diversification, with distillation, with both; compare on held-out categories."""
    from .ablation.command import run

    return run(options)


def report(options: ReportOptions) -> int:
    """Tables and plots of result files."""
    from .report.command import run_report

    return run_report(options)


add_command(app, AccuracyOptions, accuracy)
add_command(app, AskOptions, ask)
add_command(app, ExamplesOptions, examples)
add_command(app, SpeedOptions, speed)
add_command(app, VideoOptions, video)
add_command(app, ProfileOptions, profile)
add_command(app, LiveOptions, live)
add_command(app, PrecisionsOptions, precisions)
add_command(app, PipelineOptions, pipeline)
add_command(app, SoakOptions, soak)
add_command(app, ServingOptions, serving)
add_command(app, CamerasOptions, cameras)
add_command(app, DepthOptions, depth)
add_command(app, GpuOptions, gpu)
add_command(app, AblationCommand, ablation)
add_command(app, ReportOptions, report)


def main() -> None:
    """Console command; an expected error is one line on stderr and exit code 2."""
    run_command(app)


if __name__ == "__main__":
    main()
