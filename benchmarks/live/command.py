"""What `ovs-bench live`, `pipeline`, `soak` and `serving` do: measure, print, write the result."""

from __future__ import annotations

import sys
from dataclasses import asdict

from ...bundle.errors import require
from ..result_file import write_result
from .options import LiveOptions, PipelineOptions, ServingOptions, SoakOptions


def run_live(options: LiveOptions) -> int:
    """`ovs-bench live`; returns its exit code."""
    require("aiohttp", "web")
    from ...models import default_bundle
    from .class_change import measure_live

    def tell(done: int, of: int) -> None:
        print(f"{done} of {of}", file=sys.stderr)

    path = options.model or default_bundle()
    result = measure_live(path, options.source, options.threads, options.changes, tell)
    for kind, times in (("new", result.new_names), ("known", result.known_names)):
        print(f"five {kind} names seen: median {times.median:.0f} ms, p95 {times.p95:.0f} ms, max {times.max:.0f} ms")
    print(f"meanwhile {result.fps:.1f} FPS, network {result.model_ms:.1f} ms")
    write_result(options.output, path, {"live": asdict(result)})
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
    from .soak import ProcessSample, measure_soak

    def tell(sample: ProcessSample) -> None:
        print(
            f"{sample.seconds:7.1f} s  {sample.memory_mib:8.1f} MiB  {sample.threads} threads  "
            f"{sample.descriptors} descriptors  {sample.frames} frames  age {sample.age_ms:.0f} ms",
            file=sys.stderr,
        )

    path = options.model or default_bundle()
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
