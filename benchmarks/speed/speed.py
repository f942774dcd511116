"""Latency of bundles, precisions, engines and class counts in one table, each stage of a frame separately.

Runs are interleaved: all rows take turns in short bursts, in another order each round, so that other load or a falling
clock affects all of them alike. The first frame of a burst is not timed: caches hold the data of the previous row, and
threads of its engine may still occupy cores while they wait for work.
"""

from __future__ import annotations

import math
import random
import time
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

BURST = 4  # timed frames of a burst
_WARM_ROUNDS = 3  # warm-up rounds
_LEAST_ROUNDS = 4  # fewer give no spread
_CAMERA = 1000 / 30  # milliseconds between two frames of the modelled camera
_ENERGY_SECONDS = 3.0  # seconds of energy measurement of each row


@dataclass(frozen=True)
class Matrix:
    """What to measure: every combination that can be run."""

    bundles: tuple[Path, ...]
    precisions: tuple[str, ...] = ("fp32",)  # or ("all",): all precisions of each bundle
    backends: tuple[str, ...] = ("auto",)  # of `BACKENDS`; auto is what ovs-run takes, all is every available one
    classes: tuple[int, ...] = ()  # K; empty: five names and the background classes, the default of ovs-run
    threads: int = 2  # CPU threads; 0: the engine's default
    runs: int = 100  # timed frames of each row
    seconds: float | None = None  # total time instead of `runs`
    source: str | None = None  # source of the frames, as for ovs-run; None: synthetic frames
    peers: tuple[Path, ...] = ()  # ONNX files; run in ONNX Runtime, on CUDA if a bundle runs on a GPU
    commands: tuple[str, ...] = ()  # programs, see `CommandPeer`
    start: bool = True  # measure start-up in new processes as well
    # By `time.monotonic`: after the first, no further bundle is opened; after the second, no further energy is measured.
    open_until: float = math.inf
    deadline: float = math.inf


@dataclass(frozen=True)
class Spread:
    """Milliseconds over all timed frames."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Live:
    """Model of a camera at 30 frames a second: stale frames are dropped, one frame is processed at a time.

    Computed from the measured times. `ovs-run` overlaps the stages if there are cores for it.
    """

    fps: float
    age_ms: float  # frame age: from capture to the finished picture, median


@dataclass(frozen=True)
class SpeedRow:
    """One row of the table."""

    subject: Subject
    title: str  # of `subject`
    bundle_digest: str | None  # None for a peer
    frames: int  # timed
    stages: dict[str, Spread]  # the `STAGES` that it has
    total: Spread  # from JPEG to JPEG; for a peer, the part that it does
    fps: float  # throughput, one frame after the other
    live: Live
    joules: (
        float | None
    )  # energy of a frame, of everything that the power source covers; None where power cannot be read
    power_source: str | None
    doubts: tuple[str, ...]  # warnings about the samples
    network_cpu_ms: float | None  # CPU time of the network over all threads, median; None for a program
    rounds: dict[str, tuple[tuple[float, ...], ...]]  # "total" and "infer": samples of each burst, in time order


@dataclass(frozen=True)
class SpeedResult:
    """All rows of one run."""

    rows: tuple[SpeedRow, ...]
    starts: tuple[Start, ...]  # start-up of each bundle, precision and backend
    conditions: Conditions
    left_out: tuple[str, ...]  # combinations that cannot be run, and why


def measure_speed(matrix: Matrix, tell: Callable[[str], None] = lambda step: None) -> SpeedResult:
    """Measure everything; `tell` is called with each step. Raises `UsageError` for what cannot be opened."""
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
            if runners and time.monotonic() > matrix.open_until:
                left_out.append(f"{name}: out of time")
                continue
            try:
                tell(f"opening {name}")
                opened = _of_bundle(bundle, precision, backend, matrix, closing)
                if matrix.start:
                    tell(f"starting {name}")
                    starts.append(measure_start(bundle, precision, backend, matrix.threads, pictures[0].path))
                runners += opened
            except OvsError as error:
                # What was named must work; what "all" found need not.
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
        rows = []
        for index, one in enumerate(runners):
            rows.append(_row(one, times[index], pictures, reader if time.monotonic() < matrix.deadline else None))
    assert watch.conditions is not None
    return SpeedResult(tuple(rows), tuple(starts), watch.conditions, tuple(left_out))


Times = list[list[dict[str, float]]]  # of one row: rounds of frames, each stage -> milliseconds


def interleaved(
    runners: Sequence[FrameRunner],
    pictures: Sequence[Picture],
    runs: int,
    seconds: float | None,
    tell: Callable[[str], None],
    watch: ConditionMonitor,
) -> list[Times]:
    """Interleaved bursts, in a random order each round; all runners get the same frames."""
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
    """Combinations to open, and those left out with the reason."""
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
    """Providers of ONNX peers: CUDA if a bundle runs on the GPU, CPU if one runs on the CPU, or both."""
    on_gpu = [backend not in ("cpu", "torch") and "cuda" in available_backends() for backend in backends]
    return list(dict.fromkeys("cuda" if gpu else "cpu" for gpu in on_gpu or [False]))


def _usual(here: Sequence[str]) -> str:
    """The backend that `ovs-run` takes by default."""
    return "cuda" if "cuda" in here else "cpu"


def _of_bundle(bundle: Bundle, precision: str, backend: str, matrix: Matrix, closing: ExitStack) -> list[BundleRunner]:
    """One runner for each number of classes, sharing one session."""
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
    """`count` classes of one name each, trained names first."""
    known = list(dict.fromkeys(names[0] for names in bundle.manifest.background_classes))[:count]
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
        network_cpu_ms=round(float(np.median([frame["cpu"] for frame in frames])), 3) if "cpu" in frames[0] else None,
        rounds=rounds,
    )


def _each(runner: FrameRunner, pictures: Sequence[Picture]) -> Callable[[], object]:
    """A function that processes the next frame each time."""
    state = {"next": 0}

    def run() -> object:
        state["next"] += 1
        return runner.frame(pictures[state["next"] % len(pictures)])

    return run


def _spread(values: Sequence[float]) -> Spread:
    return Spread(*(round(float(value), 3) for value in np.percentile(values, [50, 90, 99])))


def live_model(totals: Sequence[float]) -> Live:
    """Frame rate and age of the camera that `Live` models, for frames that take `totals` milliseconds each."""
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
