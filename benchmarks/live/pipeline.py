"""Throughput of the whole pipeline, clip to saved video, relative to the network alone, interleaved.

The pipeline is that of `ovs-run --source clip.mp4 --save out.mp4`, with the default temporal smoothing. A CPU infers
several frames of a recording at the same time, so the network alone is measured both ways: one frame at a time on all
cores, as in `ovs-bench speed`, and as many frames at a time as the pipeline.
"""

from __future__ import annotations

import math
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy.typing as npt

from ...bundle.addresses import redact_address
from ...runtime.capture.registry import open_source
from ...runtime.draw.overlay import Style
from ...runtime.inference.frame_processor import Prepared
from ...runtime.inference.smoothing import STRENGTH, TemporalSmoother
from ...runtime.pipeline import run
from ...runtime.segmenter import Segmenter
from ...runtime.sinks.sink import Sink
from ...runtime.sinks.video_files.video_sink import VideoSink
from ...runtime.status import Status

if TYPE_CHECKING:
    import numpy as np

    from ...runtime.frame import Frame
    from ...runtime.inference.prediction import Prediction

CLASSES = "person,bike,car,dog,chair"
_PAUSE = 0.3  # seconds after which idle threads of an engine have stopped spinning


@dataclass(frozen=True)
class PipelineResult:
    """One bundle on one clip. Rates in frames a second, times in milliseconds."""

    bundle: str
    source: str  # the clip's file name, or "demo"
    frame_size: tuple[int, int]  # height, width
    rounds: int  # of network alone, then pipeline
    frames: int  # of each round
    smoothing: float  # strength of temporal smoothing, the default of `ovs-run`; 0 is off
    network_fps: float  # network alone, one frame at a time, median over the rounds
    at_once: int  # frames that the pipeline infers at the same time
    together_fps: float  # network alone, `at_once` frames at a time
    pipeline_fps: float  # decoding, network, drawing, encoding; from the first frame to the finished file
    share: float  # pipeline / network one frame at a time, median over the rounds
    together_share: float  # pipeline / network `at_once` frames at a time
    timings: dict[str, float]  # step -> median; steps of different threads overlap


class _Timings:
    """A sink that records the timings of each frame."""

    wants_picture = False
    place: str | None = None

    def __init__(self) -> None:
        self.kept: list[dict[str, float]] = []

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Record the timings."""
        self.kept.append(dict(status.timings))
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Nothing to keep."""
        return True

    def finish(self) -> None:
        """Nothing to complete."""

    def close(self) -> None:
        """Nothing to free."""


def measure_pipeline(
    path: Path,
    source: str,
    precision: str = "fp32",
    threads: int = 0,
    frames: int = 200,
    rounds: int = 3,
    provider: str = "cpu",
    deadline: float = math.inf,
) -> PipelineResult:
    """Interleaved: network alone, pipeline, network alone, …, so that changes of the machine's speed affect both.

    After `deadline`, by `time.monotonic`, no further round begins.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        Segmenter.load(path, precision, threads, provider) as one,
        Segmenter.load(path, precision, threads, provider, side_by_side=True) as several,
    ):
        one.set_classes(CLASSES)
        several.set_classes(CLASSES)
        clip = open_source(source, None)
        image = next(iter(clip)).image
        clip.close()
        prepared = one.prepare(image)
        alone, together = [_network_fps(one, prepared, frames // 2)], [_network_fps(several, prepared, frames // 2)]
        timings = _Timings()
        piped: list[float] = []
        while not piped or (len(piped) < rounds and time.monotonic() < deadline):
            clip = open_source(source, None)
            smooth = clip.moving and several.task == "semantic"
            several.smoother = TemporalSmoother() if smooth else None
            sinks: list[Sink] = [VideoSink(Path(folder) / "out.mp4", clip.fps), timings]
            piped.append(run(clip, several, sinks, Style(), frames).fps)
            alone.append(_network_fps(one, prepared, frames // 2))
            together.append(_network_fps(several, prepared, frames // 2))
        return PipelineResult(
            bundle=one.manifest.name,
            source=Path(redact_address(source)).name,
            frame_size=(image.shape[0], image.shape[1]),
            rounds=len(piped),
            frames=frames,
            smoothing=STRENGTH if several.smoother is not None else 0.0,
            network_fps=median(alone),
            at_once=several.at_once,
            together_fps=median(together),
            pipeline_fps=median(piped),
            share=_share(piped, alone),
            together_share=_share(piped, together),
            timings={step: median(entry[step] for entry in timings.kept) for step in timings.kept[0]},
        )


def _share(piped: list[float], alone: list[float]) -> float:
    """Throughput relative to that before and after each round, median over the rounds."""
    return median(2 * fps / (alone[turn] + alone[turn + 1]) for turn, fps in enumerate(piped))


def _network_fps(segmenter: Segmenter, prepared: Prepared, runs: int) -> float:
    """Throughput of the network, with `at_once` frames at a time."""
    each = max(1, runs // segmenter.at_once)

    def infer(count: int) -> None:
        for _ in range(count):
            segmenter.infer(prepared)

    time.sleep(_PAUSE)
    with ThreadPoolExecutor(segmenter.at_once) as pool:
        for count in (3, each):
            start = perf_counter()
            for done in [pool.submit(infer, count) for _ in range(segmenter.at_once)]:
                done.result()
        return each * segmenter.at_once / (perf_counter() - start)
