"""Speed of bundles, precisions, engines and class counts side by side, each stage of a frame by itself.

All runners take turns in short bursts, in another order each round, so that a busy moment or a clock that falls
hits all alike. The first frame of a burst is not timed: the caches are the predecessor's, and so may be the cores,
on which an engine's threads go on waiting for work for a while.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.errors import OvsError, UsageError
from ...runtime.segmenter import Segmenter, SegmenterOptions
from ...runtime.vocabulary.text_encoder import TextEncoder
from ..machine.conditions import ConditionMonitor, Conditions, sample_warnings
from ..machine.power import Reader, energy_per_frame, find_reader
from .backends import available_backends, open_backend, why_not
from .peer import CommandPeer, OnnxPeer
from .runners import STAGES, BundleRunner, FrameRunner, Picture, Subject, load_pictures
from .startup import FIRST_NAMES, Start, measure_start

BURST = 4  # timed frames in a row
_WARM_ROUNDS = 3  # before the first that counts
_LEAST_ROUNDS = 4  # fewer say nothing about the spread
_CAMERA = 1000 / 30  # milliseconds between two frames of the live source that is modelled
_ENERGY_SECONDS = 3.0  # of each runner by itself


@dataclass(frozen=True)
class Matrix:
    """What to measure: every combination that makes sense."""

    bundles: tuple[Path, ...]
    precisions: tuple[str, ...] = ("fp32",)  # or ("all",): those each bundle has
    backends: tuple[str, ...] = ("auto",)  # of `BACKENDS`; auto is what ovs-run takes; all is every one that is here
    classes: tuple[int, ...] = ()  # K; empty: five names and the automatic background, as ovs-run starts
    threads: int = 2  # of the CPU; 0: the engine's own choice
    runs: int = 100  # timed frames of each runner
    seconds: float | None = None  # instead of `runs`: for so long in all
    source: str | None = None  # of the frames, as for ovs-run; None: synthetic pictures
    peers: tuple[Path, ...] = ()  # ONNX files; run in ONNX Runtime, on CUDA beside bundles on a GPU
    commands: tuple[str, ...] = ()  # programs, see `CommandPeer`
    start: bool = True  # measure fresh processes as well


@dataclass(frozen=True)
class Spread:
    """Milliseconds over all timed frames."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Live:
    """A camera of 30 frames a second whose newest frame is always taken, one frame worked on at a time.

    A model from the measured times. `ovs-run` overlaps the stages where there are cores for it.
    """

    fps: float
    age_ms: float  # from capture to the finished picture, median


@dataclass(frozen=True)
class SpeedRow:
    """One runner."""

    subject: Subject
    title: str  # of the subject
    bundle_digest: str | None  # identity of the bundle; None for a peer
    frames: int  # timed
    stages: dict[str, Spread]  # of `STAGES`, those that it has
    total: Spread  # from JPEG to JPEG; of a peer, what it does of that
    fps: float  # frames over the sum of their times, one after the other
    live: Live
    joules: float | None  # a frame, everything that the power source covers; None where no power can be read
    power_source: str | None
    doubts: tuple[str, ...]  # why the figure may not be trusted
    rounds: dict[str, tuple[tuple[float, ...], ...]]  # "total" and "infer": the samples of each burst, in their order


@dataclass(frozen=True)
class SpeedResult:
    """All rows of one run."""

    rows: tuple[SpeedRow, ...]
    starts: tuple[Start, ...]  # one for each bundle, precision and backend
    conditions: Conditions
    left_out: tuple[str, ...]  # combinations that make no sense, and why


def measure_speed(matrix: Matrix, tell: Callable[[str], None] = lambda step: None) -> SpeedResult:
    """Measure everything; `tell` hears of each step. Raises `UsageError` for what cannot be opened."""
    bundles = [Bundle.open(path) for path in matrix.bundles]
    reader = find_reader()
    with ExitStack() as closing, TemporaryDirectory() as folder:
        if reader is not None:
            closing.callback(reader.close)
        pictures = load_pictures(matrix.source, Path(folder))
        wanted, left_out = _combinations(bundles, matrix)
        runners: list[FrameRunner] = []
        starts: list[Start] = []
        for bundle, precision, backend in wanted:
            name = f"{bundle.path.name} {precision} {backend}"
            try:
                tell(f"opening {name}")
                opened = _of_bundle(bundle, precision, backend, matrix, closing)
                if matrix.start:
                    tell(f"starting {name}")
                    starts.append(measure_start(bundle, precision, backend, matrix.threads, pictures[0].path))
                runners += opened
            except OvsError as error:
                # What was asked for by its name must be there; what "all" found need not work.
                if "all" not in (*matrix.precisions, *matrix.backends):
                    raise
                left_out.append(f"{name}: {error}")
        size = bundles[0].manifest.input_size if bundles else (640, 640)
        for path, provider in product(matrix.peers, _beside([backend for _, _, backend in wanted])):
            tell(f"opening {path.name} {provider}")
            try:
                runners.append(OnnxPeer(path, matrix.threads, size, provider))
            except OvsError as error:
                if "all" not in matrix.backends or provider == "cpu":
                    raise
                left_out.append(f"{path.name} {provider}: {error}")
        watch = ConditionMonitor()
        for command in matrix.commands:
            peer = CommandPeer(command)
            closing.callback(peer.close)
            watch.own(peer.pid)
            runners.append(peer)
        if not runners:
            raise UsageError(f"nothing is left to measure: {'; '.join(left_out) or 'no bundle and no peer was named'}")
        times = interleaved(runners, pictures, matrix.runs, matrix.seconds, tell, watch)
        rows = [_row(one, times[index], pictures, reader) for index, one in enumerate(runners)]
    assert watch.conditions is not None
    return SpeedResult(tuple(rows), tuple(starts), watch.conditions, tuple(left_out))


Times = list[list[dict[str, float]]]  # of one runner: rounds of frames, each stage -> milliseconds


def interleaved(
    runners: Sequence[FrameRunner],
    pictures: Sequence[Picture],
    runs: int,
    seconds: float | None,
    tell: Callable[[str], None],
    watch: ConditionMonitor,
) -> list[Times]:
    """Bursts in turn, in an order that is drawn anew for each round; every runner gets the same frames."""
    order = list(range(len(runners)))
    draw = random.Random(0)
    times: list[Times] = [[] for _ in runners]

    def burst(index: int, turn: int) -> list[dict[str, float]]:
        first = turn * (BURST + 1)  # no frame of the round before
        frames = [pictures[(first + step) % len(pictures)] for step in range(BURST + 1)]
        return [runners[index].frame(picture) for picture in frames][1:]

    def done() -> bool:
        if seconds is None:
            return len(times[0]) >= max(_LEAST_ROUNDS, -(-runs // BURST))
        return len(times[0]) >= _LEAST_ROUNDS and perf_counter() - start >= seconds

    tell("warming up")
    for turn in range(_WARM_ROUNDS):
        for index in order:
            burst(index, turn)
    with watch:
        start = perf_counter()
        while not done():
            draw.shuffle(order)
            for index in order:
                times[index].append(burst(index, len(times[index])))
            if len(times[0]) % 10 == 0:
                tell(f"{len(times[0]) * BURST} frames of each")
    return times


def _combinations(bundles: Sequence[Bundle], matrix: Matrix) -> tuple[list[tuple[Bundle, str, str]], list[str]]:
    """What is to be opened, and what is not, with the reason."""
    here = available_backends()
    backends: list[str] = []
    for name in matrix.backends:
        backends += here if name == "all" else [_usual(here)] if name == "auto" else [name]
    wanted, left_out = [], []
    for bundle in bundles:
        have = tuple(bundle.manifest.precisions)
        for precision in have if matrix.precisions == ("all",) else matrix.precisions:
            for backend in dict.fromkeys(backends):
                reason = why_not(backend, precision)
                if reason is None:
                    wanted.append((bundle, precision, backend))
                else:
                    left_out.append(f"{bundle.manifest.name} {precision} with {backend}: {reason}")
    return wanted, left_out


def _beside(backends: Sequence[str]) -> list[Literal["cpu", "cuda"]]:
    """Where ONNX peers run: on the GPU beside bundles that run there, on the CPU beside others, or on both."""
    on_gpu = [backend not in ("cpu", "torch") and "cuda" in available_backends() for backend in backends]
    return list(dict.fromkeys("cuda" if gpu else "cpu" for gpu in on_gpu or [False]))


def _usual(here: Sequence[str]) -> str:
    """What `ovs-run` takes by itself."""
    return "cuda" if "cuda" in here else "cpu"


def _of_bundle(bundle: Bundle, precision: str, backend: str, matrix: Matrix, closing: ExitStack) -> list[BundleRunner]:
    """One runner for each number of classes, all of one session."""
    manifest = bundle.manifest
    session = open_backend(bundle, precision, backend, matrix.threads)
    closing.enter_context(session)
    encoder = TextEncoder(bundle, matrix.threads)
    runners = []
    for count in matrix.classes or (None,):
        segmenter = Segmenter(manifest, session, encoder, SegmenterOptions("auto" if count is None else "none"))
        asked = segmenter.set_classes(FIRST_NAMES if count is None else _names(bundle, count))
        vectors = asked.vocabulary.vectors
        subject = Subject(
            model=bundle.path.name.removesuffix(".ovs"),
            backend=backend,
            precision=precision,
            input_size=manifest.input_size,
            decoder_layers=manifest.graph.decoder_layers,
            masks=manifest.graph.masks,
            classes=vectors.shape[0],
            names=vectors.shape[1],
            threads=matrix.threads,
        )
        runners.append(BundleRunner(subject, bundle.digest, segmenter, session, asked))
    return runners


def _names(bundle: Bundle, count: int) -> list[str]:
    """So many classes of one name each: those of the training first, since their vectors are at hand."""
    known = list(dict.fromkeys(names[0] for names in bundle.manifest.training_vocabulary))[:count]
    return known + [f"object {number}" for number in range(count - len(known))]


def _row(runner: FrameRunner, times: Times, pictures: Sequence[Picture], reader: Reader | None) -> SpeedRow:
    frames = [frame for part in times for frame in part]
    totals = [frame["total"] for frame in frames]
    energy = energy_per_frame(_each(runner, pictures), reader, _ENERGY_SECONDS)
    rounds: dict[str, tuple[tuple[float, ...], ...]] = {
        key: tuple(tuple(round(frame[key], 3) for frame in part) for part in times)
        for key in ("total", "infer")
        if key in frames[0]
    }
    return SpeedRow(
        subject=runner.subject,
        title=runner.subject.title,
        bundle_digest=runner.bundle_digest,
        frames=len(frames),
        stages={name: _spread([frame[name] for frame in frames]) for name in STAGES if name in frames[0]},
        total=_spread(totals),
        fps=1000 * len(totals) / sum(totals),
        live=live_model(totals),
        joules=energy[0] if energy else None,
        power_source=energy[1] if energy else None,
        doubts=tuple(sample_warnings(rounds["total"])),
        rounds=rounds,
    )


def _each(runner: FrameRunner, pictures: Sequence[Picture]) -> Callable[[], object]:
    """One frame after the other."""
    state = {"next": 0}

    def run() -> object:
        state["next"] += 1
        return runner.frame(pictures[state["next"] % len(pictures)])

    return run


def _spread(values: Sequence[float]) -> Spread:
    return Spread(*(round(float(value), 3) for value in np.percentile(values, [50, 90, 99])))


def live_model(totals: Sequence[float]) -> Live:
    """What a camera's viewer would see if frames took so many milliseconds each."""
    now, last = 0.0, -1
    ages, finished = [], []
    for total in totals:
        newest = max(int(now / _CAMERA), last + 1)
        captured = newest * _CAMERA
        now = max(now, captured) + total
        ages.append(now - captured)
        finished.append(now)
        last = newest
    passed = finished[-1] - finished[0] or totals[0]
    return Live(fps=1000 * max(1, len(totals) - 1) / passed, age_ms=float(np.median(ages)))
