"""What `ovs-bench speed`, `profile`, `precisions` and `depth` do: measure, print, write the result."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ...bundle.errors import UsageError, require
from ..options import positive, words
from ..result_file import write_result
from .options import DepthOptions, PrecisionsOptions, ProfileOptions, SpeedOptions

if TYPE_CHECKING:
    from .compare import ResultComparison


def run_speed(options: SpeedOptions) -> int:
    """`ovs-bench speed`; returns its exit code."""
    from ...models import default_bundle
    from ..report.speed_console import all_doubts, print_speed
    from .compare import LEAST_BURSTS, check, load_result
    from .speed import BURST, Matrix, measure_speed

    # Read before the measurement: a wrong file is reported at once.
    before = load_result(options.compare) if options.compare is not None else None
    if before is not None and options.seconds is None and options.runs < LEAST_BURSTS * BURST:
        raise UsageError(f"--runs is {options.runs}, expected {LEAST_BURSTS * BURST} or more for --compare to judge by")
    matrix = Matrix(
        bundles=options.model or (default_bundle(),),
        precisions=words(options.precision, "--precision"),
        backends=words(options.backend, "--backend"),
        classes=tuple(positive(options.classes, "--classes", "2,20,150")) if options.classes else (),
        threads=options.threads,
        runs=options.runs,
        seconds=options.seconds,
        source=options.source,
        peers=options.peer,
        commands=options.peer_command,
        start=options.start,
    )
    result = measure_speed(matrix, lambda step: print(step, file=sys.stderr))
    print_speed(result)
    document: dict[str, Any] = {"speed": asdict(result)}
    allowed = options.regression / 100
    comparison = None
    try:
        if before is not None:
            comparison = _compare(before, document, allowed)
            document["comparison"] = {"allowed": allowed, **asdict(comparison)}
    finally:  # the result is kept, even if it cannot be compared
        write_result(options.output, None, document)
    if comparison is not None:
        check(comparison.changes, allowed, [*comparison.warnings, *all_doubts(result)])
    return 0


def run_profile(options: ProfileOptions) -> int:
    """`ovs-bench profile`; returns its exit code."""
    from ...bundle.bundle import Bundle
    from ...models import default_bundle
    from ..report.speed_console import print_profile
    from .profile import measure_profile

    path = options.model or default_bundle()
    bundle = Bundle.open(path)
    result = measure_profile(bundle, options.precision, options.classes, options.threads, options.runs)
    print_profile(result, options.top)
    write_result(options.output, path, {"profile": asdict(result)})
    return 0


def run_precisions(options: PrecisionsOptions) -> int:
    """`ovs-bench precisions`; returns its exit code."""
    from ...models import default_bundle
    from ..report.speed_tables import precisions_table
    from .precisions import measure_precisions

    path = options.model or default_bundle()
    result = {"precisions": asdict(measure_precisions(path, options.photo, options.threads, options.rounds))}
    print(precisions_table(result))
    write_result(options.output, path, result)
    return 0


def run_depth(options: DepthOptions) -> int:
    """`ovs-bench depth`; returns its exit code."""
    require("torch", "export")
    require("onnx", "export")
    from .depth import measure_depth
    from .models import open_model

    wanted = positive(options.layers, "--layers", "3,6,9")
    results = []
    for name in options.model:
        opened = open_model(name)
        most = opened.config.query_decoder.layers
        have = [depth for depth in wanted if depth <= most] if most else [0]
        results += measure_depth(
            opened,
            have,
            options.size,
            threads=options.threads,
            runs=options.runs,
            on_step=lambda step: print(step, file=sys.stderr),
        )
    for row in results:
        print(
            f"{row.model} {row.input_size[0]}x{row.input_size[1]} {row.decoder_layers} layers: {row.parameters_m} M, "
            f"{row.gflops} GFLOPs, ONNX Runtime {row.onnx_ms} ms, torch {row.torch_ms} ms, {row.speedup}x"
        )
    write_result(options.output, None, {"depth": [asdict(row) for row in results]})
    return 0


def _compare(before: dict[str, Any], after: dict[str, Any], allowed: float) -> ResultComparison:
    """Print every change, the rows that only one of the results has, and the differences between the machines."""
    from ..machine.environment import Environment
    from ..report.speed_console import print_comparison
    from .compare import compare

    comparison = compare(before, {"environment": asdict(Environment.here()), **after})
    print_comparison(comparison, allowed)
    return comparison
