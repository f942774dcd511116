"""Several cameras on one network, and what becomes of the others when one of them stalls, floods or dies.

The cameras are Motion JPEG over HTTP from a process of their own. Throughput is compared with one camera through
`ovs-run --camera`'s pipeline that offers as many frames as all of them together, so that decoding costs the same. All
ways are measured in turn, round by round, and compared within a round: a busy machine slows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from ...bundle.bundle import Bundle
from ...runtime.cameras.camera import Camera
from ...runtime.cameras.config import CameraConfig, CamerasConfig, ModelConfig, Sharing
from ...runtime.cameras.counts import CameraState
from ...runtime.cameras.service import CameraService
from ...runtime.capture.options import CaptureOptions
from ...runtime.capture.registry import open_source
from ...runtime.draw.overlay import Style
from ...runtime.inference.smoothing import TemporalSmoother
from ...runtime.pipeline import run
from ...runtime.segmenter import Segmenter
from .camera_sinks import TimedSink
from .synthetic_cameras import CameraMode, SyntheticCameras

_CLASSES = "person,bike,car,dog,chair"
_SETTLE = 3.0  # seconds of a part before it is measured
_RETURN = 20.0  # seconds for a camera to be back: the longest pause between two attempts and some
_SPARE = 0.5  # share of the throughput that limited cameras take together
_FAULTS = (CameraMode.STALL, CameraMode.FLOOD, CameraMode.DIE)


@dataclass(frozen=True)
class SharingResult:
    """One way of sharing the processor, over all rounds."""

    sharing: str
    fps: float  # of all cameras together, median
    share: float  # of one camera's rate in the same round, median
    age_ms: float  # frame age at the outputs, median
    model_ms: float  # time of a frame in the network, median
    age_bound: float  # age over cameras x the time in the network of a single camera in the same round, median
    slowest: float  # rate of the slowest camera over that of the fastest
    cpu_ms: float  # processor time a frame, decoding and outputs included, median; other programs hardly change it


@dataclass(frozen=True)
class FaultResult:
    """What happened to the other cameras, over all rounds."""

    fault: str
    limited: bool  # cameras take half of the network's throughput; else all of it, which fewer cameras then share
    others: float  # rate of the other cameras in the fault over that before it, median
    lowest: float  # of all rounds
    highest: float


@dataclass(frozen=True)
class CamerasResult:
    """One bundle on one machine."""

    bundle: str
    source: str  # the clip's file name
    cameras: int
    camera_fps: float  # that each camera sends
    seconds: float  # of each part of a round
    rounds: int
    single_fps: float  # one camera that sends as many frames as all together, median
    single_model_ms: float
    single_cpu_ms: float
    sharings: tuple[SharingResult, ...]
    faults: tuple[FaultResult, ...]


@dataclass(frozen=True)
class CamerasPlan:
    """What is measured."""

    bundle: Path
    clip: Path
    cameras: int
    fps: float  # of each camera
    seconds: float
    rounds: int
    threads: int


@dataclass(frozen=True)
class _Rates:
    """One part of one round."""

    fps: tuple[float, ...]  # of each camera
    age_ms: float
    model_ms: float
    cpu_ms: float


def measure_cameras(plan: CamerasPlan, tell: Callable[[str], None]) -> CamerasResult:
    """Measure throughput and age, then faults; `tell` is told of each part."""
    sharings = (Sharing.SIDE_BY_SIDE, Sharing.ONE_AT_A_TIME)
    singles: list[_Rates] = []
    shared: dict[Sharing, list[_Rates]] = {sharing: [] for sharing in sharings}
    for number in range(plan.rounds):
        singles.append(_single(plan))
        tell(f"round {number + 1}: one camera {singles[-1].fps[0]:.1f} FPS")
        for sharing in sharings:
            with _service(plan, sharing) as (service, _):
                time.sleep(_SETTLE)
                shared[sharing].append(_watched(service.cameras, plan.seconds))
            tell(f"round {number + 1}: {plan.cameras} cameras {sharing.value} {sum(shared[sharing][-1].fps):.1f} FPS")
    results = tuple(_summed(sharing, shared[sharing], singles, plan.cameras) for sharing in sharings)
    limit = _SPARE * median(sum(rates.fps) for rates in shared[Sharing.SIDE_BY_SIDE]) / plan.cameras
    faults = [fault for most in (None, limit) for fault in _faults(plan, most, tell)]
    return CamerasResult(
        bundle=Bundle.open(plan.bundle).manifest.name,
        source=plan.clip.name,
        cameras=plan.cameras,
        camera_fps=plan.fps,
        seconds=plan.seconds,
        rounds=plan.rounds,
        single_fps=median(rates.fps[0] for rates in singles),
        single_model_ms=median(rates.model_ms for rates in singles),
        single_cpu_ms=median(rates.cpu_ms for rates in singles),
        sharings=results,
        faults=tuple(faults),
    )


def _single(plan: CamerasPlan) -> _Rates:
    """One camera through the pipeline of `ovs-run --camera`."""
    sink = TimedSink(_SETTLE, plan.seconds)
    with SyntheticCameras(plan.clip, 1, plan.cameras * plan.fps) as streams:
        segmenter = Segmenter.load(plan.bundle, "auto", plan.threads)
        with segmenter:
            segmenter.set_classes(_CLASSES)
            segmenter.smoother = TemporalSmoother() if segmenter.task == "semantic" else None
            source = open_source(camera=streams.address(0), options=CaptureOptions())
            run(source, segmenter, [sink], Style())
    return _Rates((sink.fps,), median(sink.ages), median(sink.models), sink.cpu_ms)


@contextmanager
def _service(
    plan: CamerasPlan, sharing: Sharing, most_fps: float | None = None
) -> Iterator[tuple[CameraService, SyntheticCameras]]:
    """The service on all cameras, playing."""
    with SyntheticCameras(plan.clip, plan.cameras, plan.fps) as streams:
        one = CameraConfig("0", _CLASSES) if most_fps is None else CameraConfig("0", _CLASSES, max_fps=most_fps)
        cameras = {f"camera{at}": replace(one, source=streams.address(at)) for at in range(plan.cameras)}
        model = ModelConfig(plan.bundle, threads=plan.threads, sharing=sharing)
        with CameraService(CamerasConfig(cameras, model), lambda text: None) as service:
            service.start()
            _await(service.cameras)
            yield service, streams


def _await(cameras: list[Camera]) -> None:
    """Return once all of `cameras` play, or after some time."""
    deadline = time.monotonic() + _RETURN
    while time.monotonic() < deadline:
        if all(one.state[0] is CameraState.PLAYING and one.counts.frames for one in cameras):
            return
        time.sleep(0.1)


def _watched(cameras: list[Camera], seconds: float) -> _Rates:
    """Rates of `cameras` over some seconds."""
    before, begun, ages, models = [one.counts.frames for one in cameras], time.monotonic(), [], []
    used = time.process_time()
    while (passed := time.monotonic() - begun) < seconds:
        time.sleep(min(0.5, seconds - passed))
        ages += [one.counts.age_ms for one in cameras if one.counts.age_ms is not None]
        models += [one.counts.model_ms for one in cameras if one.counts.model_ms is not None]
    passed = time.monotonic() - begun
    rates = tuple((one.counts.frames - count) / passed for one, count in zip(cameras, before, strict=True))
    cpu_ms = (time.process_time() - used) * 1e3 / max(1.0, sum(rates) * passed)
    return _Rates(rates, median(ages or [0.0]), median(models or [0.0]), cpu_ms)


def _faults(plan: CamerasPlan, most_fps: float | None, tell: Callable[[str], None]) -> Iterator[FaultResult]:
    ratios: dict[CameraMode, list[float]] = {fault: [] for fault in _FAULTS}
    with _service(plan, Sharing.SIDE_BY_SIDE, most_fps) as (service, streams):
        time.sleep(_SETTLE)
        for number in range(plan.rounds):
            for at, fault in enumerate(_FAULTS):
                hit = (number + at) % plan.cameras
                others = [one for index, one in enumerate(service.cameras) if index != hit]
                before = sum(_watched(others, plan.seconds).fps)
                streams.set_mode(hit, fault)
                time.sleep(min(_SETTLE, plan.seconds))
                during = sum(_watched(others, plan.seconds).fps)
                streams.set_mode(hit, CameraMode.PLAY)
                _await(service.cameras)
                time.sleep(_SETTLE)
                after = sum(_watched(others, plan.seconds).fps)
                ratios[fault].append(during / ((before + after) / 2))
                tell(f"round {number + 1}: {fault.value}, the others at {ratios[fault][-1]:.1%}")
    for fault, found in ratios.items():
        yield FaultResult(fault.value, most_fps is not None, median(found), min(found), max(found))


def _summed(sharing: Sharing, rounds: list[_Rates], singles: list[_Rates], cameras: int) -> SharingResult:
    pairs = list(zip(rounds, singles, strict=True))
    return SharingResult(
        sharing=sharing.value,
        fps=median(sum(rates.fps) for rates in rounds),
        share=median(sum(rates.fps) / single.fps[0] for rates, single in pairs),
        age_ms=median(rates.age_ms for rates in rounds),
        model_ms=median(rates.model_ms for rates in rounds),
        age_bound=median(rates.age_ms / (cameras * single.model_ms) for rates, single in pairs),
        slowest=median(min(rates.fps) / max(rates.fps) for rates in rounds),
        cpu_ms=median(rates.cpu_ms for rates in rounds),
    )
