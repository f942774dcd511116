"""What `ovs-bench live`, `pipeline`, `soak`, `serving` and `cameras` do: measure, print, write the result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ...bundle.errors import require
from ..result_file import write_result
from .options import CamerasOptions, LiveOptions, PipelineOptions, ServingOptions, SoakOptions

if TYPE_CHECKING:
    from .soak import ProcessSample

_SOAK_FPS = 15.0  # of each synthetic camera


def run_live(options: LiveOptions) -> int:
    """`ovs-bench live`; returns its exit code."""
    require("aiohttp", "web")
    from ...models import default_bundle
    from .class_change import measure_live

    def tell(done: int, of: int) -> None:
        print(f"{done} of {of}", file=sys.stderr)

    path = options.model or default_bundle()
    if options.clicks:
        return _run_clicks(options, path, tell)
    result = measure_live(path, options.source, options.threads, options.changes, tell)
    for kind, times in (("new", result.new_names), ("known", result.known_names)):
        print(f"five {kind} names seen: median {times.median:.0f} ms, p95 {times.p95:.0f} ms, max {times.max:.0f} ms")
    print(f"meanwhile {result.fps:.1f} FPS, network {result.model_ms:.1f} ms")
    write_result(options.output, path, {"live": asdict(result)})
    return 0


def _run_clicks(options: LiveOptions, path: Path, tell: Callable[[int, int], None]) -> int:
    from .shown_class import measure_clicks

    result = measure_clicks(path, options.source, options.threads, options.clicks, tell)
    kinds = (("seen", result.seen), ("answered", result.answered), ("in a frozen frame seen", result.seen_frozen))
    for what, times in kinds:
        print(f"class by a click {what}: median {times.median:.0f} ms, p95 {times.p95:.0f} ms, max {times.max:.0f} ms")
    print(
        f"meanwhile {result.fps:.1f} FPS, network {result.model_ms:.1f} ms; of {result.frames} frames {result.lost} lost, "
        f"{result.mixed} mixed; a frame while nothing is shown {result.idle_cost:+.1%}"
    )
    write_result(options.output, path, {"clicks": asdict(result)})
    return 0


def run_pipeline(options: PipelineOptions) -> int:
    """`ovs-bench pipeline`; returns its exit code."""
    from ...models import default_bundle
    from .pipeline import measure_pipeline

    path = options.model or default_bundle()
    result = measure_pipeline(path, options.source, options.precision, options.threads, options.frames, options.rounds)
    print(
        f"pipeline {result.pipeline_fps:.1f} FPS with {result.at_once} frames at a time; network alone "
        f"{result.network_fps:.1f} FPS one frame at a time ({result.share:.0%}), {result.together_fps:.1f} FPS with "
        f"{result.at_once} frames at a time ({result.together_share:.0%})"
    )
    print(", ".join(f"{step} {ms:.1f} ms" for step, ms in result.timings.items()))
    write_result(options.output, path, {"pipeline": asdict(result)})
    return 0


def run_soak(options: SoakOptions) -> int:
    """`ovs-bench soak`; returns its exit code."""
    from ...models import default_bundle
    from .soak import measure_soak

    def tell(sample: ProcessSample) -> None:
        print(
            f"{sample.seconds:7.1f} s  {sample.memory_mib:8.1f} MiB  {sample.threads} threads  "
            f"{sample.descriptors} descriptors  {sample.frames} frames  age {sample.age_ms:.0f} ms",
            file=sys.stderr,
        )

    path = options.model or default_bundle()
    if options.cameras > 1:
        return _soak_cameras(options, path, tell)
    result = measure_soak(
        path, options.clip, options.minutes, unpaced=options.unpaced, threads=options.threads, tell=tell
    )
    print(
        f"{result.frames} frames, {result.changes} class changes: memory {result.memory_growth:+.1%}, "
        f"threads {result.threads_gained:+d}, descriptors {result.descriptors_gained:+d}, "
        f"frame age {result.age_ms:.0f} ms ({result.age_ms / result.model_ms:.1f} inference times), "
        f"{result.age_first_ms:.0f} ms in the first tenth, {result.age_last_ms:.0f} ms in the last"
    )
    write_result(options.output, path, {"soak": asdict(result)})
    return 0


def run_serving(options: ServingOptions) -> int:
    """`ovs-bench serving`; returns its exit code: 1 where an answer was wrong."""
    require("ray", "ray")
    from ...models import default_bundle
    from .serving import ServingSample, measure_serving

    def tell(sample: ServingSample) -> None:
        print(
            f"{sample.seconds:7.1f} s  {sample.answers} answers  {sample.busy} times busy  server {sample.server_mib:.0f}, "
            f"replicas {sample.replicas_mib:.0f}, Ray {sample.ray_mib:.0f} MiB",
            file=sys.stderr,
        )

    path = options.model or default_bundle()
    result = measure_serving(
        path,
        options.photos,
        clients=options.clients,
        replicas=options.replicas,
        queue=options.queue,
        minutes=options.minutes,
        tell=tell,
    )
    print(
        f"{result.answers} answers to {result.clients} clients with {result.lists} lists of classes: "
        f"{result.per_second:.1f} per second, median {result.median_ms:.0f} ms, p95 {result.p95_ms:.0f} ms; "
        f"{result.busy} times 503, {result.failures} other errors; {result.leaks} with classes of another request, "
        f"{result.unlike_the_first} unlike the first answer to the same request; {result.exact} of {result.compared} "
        f"distinct answers equal predict's in every pixel, least agreement {result.least_agreement:.4%}; "
        f"{result.refused} of {result.hostile} malformed or oversized requests refused; "
        f"memory {result.memory_growth:+.1%}"
    )
    write_result(options.output, path, {"serving": asdict(result)})
    return 0 if result.right else 1


def _soak_cameras(options: SoakOptions, path: Path, tell: Callable[[ProcessSample], None]) -> int:
    from .cameras_soak import CamerasSoakPlan, soak_cameras

    plan = CamerasSoakPlan(path, options.clip, options.cameras, _SOAK_FPS, options.minutes, options.threads)
    result = soak_cameras(plan, tell)
    print(
        f"{result.frames} frames of {result.cameras} cameras, {result.changes} changes of classes and rules, "
        f"{result.faults} faults, {result.events} events: memory {result.memory_growth:+.1%}, threads "
        f"{result.threads_gained:+d}, descriptors {result.descriptors_gained:+d}, frame age {result.age_ms:.0f} ms"
    )
    write_result(options.output, path, {"cameras_soak": asdict(result)})
    return 0


def run_cameras(options: CamerasOptions) -> int:
    """`ovs-bench cameras`; returns its exit code."""
    from ...models import default_bundle
    from .cameras import CamerasPlan, measure_cameras

    path = options.model or default_bundle()
    plan = CamerasPlan(
        path, options.clip, options.cameras, options.fps, options.seconds, options.rounds, options.threads
    )
    result = measure_cameras(plan, lambda text: print(text, file=sys.stderr, flush=True))
    print(
        f"one camera {result.single_fps:.1f} FPS, network {result.single_model_ms:.1f} ms, processor time "
        f"{result.single_cpu_ms:.0f} ms a frame"
    )
    for one in result.sharings:
        print(
            f"{result.cameras} cameras {one.sharing}: {one.fps:.1f} FPS ({one.share:.0%} of one camera), frame age "
            f"{one.age_ms:.0f} ms = {one.age_bound:.2f} x cameras x inference time, slowest camera {one.slowest:.0%} of the "
            f"fastest, processor time {one.cpu_ms:.0f} ms a frame"
        )
    for fault in result.faults:
        load = "half of the throughput" if fault.limited else "all of the throughput"
        print(
            f"{fault.fault}, cameras that take {load}: the others at {fault.others:.1%} "
            f"({fault.lowest:.1%} to {fault.highest:.1%})"
        )
    write_result(options.output, path, {"cameras": asdict(result)})
    return 0
