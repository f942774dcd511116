"""Soak test of several cameras: classes, zones and rules change every five seconds, cameras stall, flood and die.

Memory, threads and descriptors are counted in the process of the service; the synthetic cameras have their own.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from ...bundle.bundle import Bundle
from ...runtime.cameras.allocator import limit_heaps
from ...runtime.cameras.config import CameraConfig, CamerasConfig, ModelConfig, WebConfig
from ...runtime.cameras.service import CameraService
from ...runtime.events.config import parse_watch
from ...runtime.events.delivery.options import parse_delivery
from .soak import CHANGE, EVERY, KINDS, SETTLED, THINGS, ProcessSample, process_sample
from .synthetic_cameras import CameraMode, SyntheticCameras

_MINUTE = 60.0  # seconds
_FAULT = 30.0  # seconds between two changes of what a camera does


@dataclass(frozen=True)
class CamerasSoakResult:
    """One run."""

    bundle: str
    source: str  # the clip's file name
    cameras: int
    camera_fps: float
    minutes: float
    frames: int
    changes: int  # of classes and rules, each of every camera
    faults: int  # times a camera stalled, flooded or died
    events: int
    memory_growth: float  # from minute 3, or from a tenth of a shorter run, to the end, as a share
    threads_gained: int  # over the same time; medians of the first and last samples in which all cameras play
    descriptors_gained: int
    age_ms: float  # median frame age at the outputs
    samples: tuple[ProcessSample, ...] = field(repr=False)


@dataclass(frozen=True)
class CamerasSoakPlan:
    """What is run."""

    bundle: Path
    clip: Path
    cameras: int
    fps: float
    minutes: float
    threads: int


def soak_cameras(plan: CamerasSoakPlan, tell: Callable[[ProcessSample], None]) -> CamerasSoakResult:
    """Run for some minutes in this process; `tell` is called with every sample."""
    draw = random.Random(0)
    samples: list[ProcessSample] = []
    playing: list[ProcessSample] = []
    changes = faults = 0
    limit_heaps()  # as ovs-run does
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Not the user's cache, which would fill with meaningless names, nor know those of an earlier run.
        stack.enter_context(_environment("XDG_CACHE_HOME", str(folder / "cache")))
        streams = stack.enter_context(SyntheticCameras(plan.clip, plan.cameras, plan.fps))
        config = _config(plan, folder, streams)
        service = stack.enter_context(CameraService(config, lambda text: None))
        service.start()
        begun, hit = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < plan.minutes * _MINUTE:
            due = min((changes + 1) * CHANGE, (len(samples) + 1) * EVERY, (faults + 1) * _FAULT)
            time.sleep(max(0.0, min(due, plan.minutes * _MINUTE) - passed))
            passed = time.monotonic() - begun
            if passed >= (len(samples) + 1) * EVERY:  # before a change, which briefly opens a cache file
                counts = [camera.counts for camera in service.cameras]
                ages = [one.age_ms for one in counts if one.age_ms is not None]
                models = [one.model_ms for one in counts if one.model_ms is not None]
                frames = sum(one.frames for one in counts)
                sample = process_sample(passed, frames, median(ages or [0.0]), median(models or [0.0]))
                samples.append(sample)
                playing += [sample] if all(camera.state[1] is None for camera in service.cameras) else []
                tell(sample)
            if passed >= (changes + 1) * CHANGE:
                changes += 1
                config = _changed(config, draw, changes)
                service.reload(config)
            if passed >= (faults + 1) * _FAULT:
                # Every second time all cameras play, so that there are samples to compare.
                faults += 1
                streams.set_mode(hit, CameraMode.PLAY)
                if faults % 2:
                    hit = faults // 2 % plan.cameras
                    streams.set_mode(hit, draw.choice([CameraMode.STALL, CameraMode.FLOOD, CameraMode.DIE]))
        frames = sum(camera.counts.frames for camera in service.cameras)
        events = sum(camera.counts.events for camera in service.cameras)
    settled = min(SETTLED, plan.minutes * _MINUTE / 10)
    compared = [sample for sample in playing if sample.seconds >= settled] or samples
    few = max(3, len(compared) // 10)
    begin, end = compared[:few], compared[-few:]

    def middle(of: list[ProcessSample], value: Callable[[ProcessSample], float]) -> float:
        return median(map(value, of))

    return CamerasSoakResult(
        bundle=Bundle.open(plan.bundle).manifest.name,
        source=plan.clip.name,
        cameras=plan.cameras,
        camera_fps=plan.fps,
        minutes=plan.minutes,
        frames=frames,
        changes=changes,
        faults=(faults + 1) // 2,
        events=events,
        memory_growth=middle(end, lambda one: one.memory_mib) / middle(begin, lambda one: one.memory_mib) - 1,
        threads_gained=round(middle(end, lambda one: one.threads) - middle(begin, lambda one: one.threads)),
        descriptors_gained=round(middle(end, lambda one: one.descriptors) - middle(begin, lambda one: one.descriptors)),
        age_ms=middle(samples, lambda one: one.age_ms),
        samples=tuple(samples),
    )


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _config(plan: CamerasSoakPlan, folder: Path, streams: SyntheticCameras) -> CamerasConfig:
    cameras = {
        f"camera{at}": CameraConfig(streams.address(at), "person,bike,car", json=str(folder / f"{at}.jsonl"))
        for at in range(plan.cameras)
    }
    delivery = parse_delivery(
        {"json_lines": {"path": str(folder / "events.jsonl")}, "spool": {"folder": str(folder / "spool")}}, "soak"
    )
    web = WebConfig("127.0.0.1:0", recordings=folder / "recordings")
    return CamerasConfig(cameras, ModelConfig(plan.bundle, threads=plan.threads), web, delivery)


def _changed(config: CamerasConfig, draw: random.Random, number: int) -> CamerasConfig:
    """Other classes, zones and rules for every camera; the number makes names that no cache has."""
    cameras = {}
    for at, (name, camera) in enumerate(config.cameras.items()):
        new = f"{draw.choice(KINDS)} {draw.choice(THINGS)} {number} {at}"
        left, top = draw.uniform(0, 0.5), draw.uniform(0, 0.5)
        table: dict[str, Any] = {
            "zones": {"zone": {"points": [[left, top], [left + 0.4, top], [left + 0.4, top + 0.4], [left, top + 0.4]]}},
            "rules": ["person in zone", f"count(car in zone) > {draw.randrange(3)}", f"coverage({new} in frame) > 5%"],
        }
        watch = parse_watch(table, name)
        cameras[name] = replace(camera, classes=("person", "bike", "car", new), watch=watch)
    return replace(config, cameras=cameras)
