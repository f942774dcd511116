"""Results of a build, on the terminal and as JSON."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ...bundle.bundle import Bundle
from ...bundle.errors import BundleError, PlanError, SinkError
from ...bundle.files import replacing
from ...bundle.strict import parse
from ...runtime.engines.plan import LAYERS, Plan, Target
from ...runtime.engines.tensorrt import TensorRTSession
from .make_plan import LEVEL, PlanOptions, PlanOutcome
from .network import EngineLayer, computes_in, summary
from .parity import PlanParity

_SLOWEST = 10


def recorded_layers(plan: Plan) -> tuple[EngineLayer, ...]:
    """Layers of the network, from `layers.json` of the plan. Raises `PlanError` where it cannot be read."""
    file = plan.path / LAYERS
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PlanError(f"cannot read the layers in {file} ({error}); build the plan again with ovs-build") from error
    try:
        recorded: _Recorded = parse(_Recorded, {"layers": raw}, str(file), "build the plan again with ovs-build")
    except BundleError as error:
        raise PlanError(str(error)) from error
    return recorded.layers


@dataclass(frozen=True)
class _Recorded:
    """`layers.json`."""

    layers: tuple[EngineLayer, ...]


def print_layers(layers: Sequence[EngineLayer]) -> None:
    """Print the type that each layer of the network computes in, and the number of layers of each kind.

    The engine may fuse layers; the types stay, since the network is strongly typed.
    """
    console = Console(highlight=False, markup=False)
    table = Table(title=f"{len(layers)} layers of the network", title_justify="left")
    for name in ("layer", "kind", "in"):
        table.add_column(name, overflow="fold")
    for layer in layers:
        table.add_row(layer.name, layer.kind, computes_in(layer))
    console.print(table)
    table = Table(title="of each kind", title_justify="left")
    table.add_column("layer")
    table.add_column("in")
    for kind, types in summary(layers).items():
        table.add_row(kind, ", ".join(f"{name} {count}" for name, count in types.items()))
    console.print(table)


def print_engine(plan: Plan) -> None:
    """Print the engine's layers with their types, and the slowest; runs on the GPU. Untested on a GPU."""
    manifest, smallest = plan.sidecar.manifest, plan.sidecar.profiles[0]
    image = np.zeros((1, *manifest.input_size, 3), np.uint8)
    vectors = np.ones((smallest.classes, smallest.names, manifest.text.dim), np.float32)
    with TensorRTSession(plan) as session:
        layers = session.layers()
        times = session.layer_times(image, vectors)
    console = Console(highlight=False, markup=False)
    table = Table(title=f"{len(layers)} layers of the engine", title_justify="left")
    for name in ("layer", "types"):
        table.add_column(name)
    for name, types in layers:
        table.add_row(name, types)
    console.print(table)
    table = Table(title=f"the slowest of them, profile {smallest}", title_justify="left")
    table.add_column("layer")
    table.add_column("ms", justify="right")
    for name, ms in sorted(times.items(), key=lambda entry: -entry[1])[:_SLOWEST]:
        table.add_row(name, f"{ms:.3f}")
    console.print(table)


def print_parity(parity: PlanParity) -> None:
    """The comparison, a row for each vocabulary."""
    title = f"the plan against ONNX Runtime, {parity.pictures} images ({parity.source})"
    panoptic = parity.rows[0].masks_apart is not None
    table = Table(title=title, title_justify="left")
    queries = ("masks differ", "query classes differ") if panoptic else ()
    for name in ("profile", "classes", "names each", "labels equal", "confidence differs", *queries, "ms"):
        table.add_column(name, justify="right")
    for row in parity.rows:
        table.add_row(
            row.profile,
            str(row.classes),
            str(row.names),
            f"{row.labels_equal:.4%}",
            f"{row.confidence_apart:.1e}",
            *(f"{value:.1e}" for value in (row.masks_apart, row.classes_apart) if value is not None),
            f"{row.milliseconds:.2f}",
        )
    Console(highlight=False, markup=False).print(table)


def add_row(path: Path, bundle: Bundle, options: PlanOptions, target: Target, outcome: PlanOutcome) -> None:
    """Add one build to a file of builds. Raises `SinkError`."""
    try:
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"builds": []}
        document["builds"].append(_row(bundle, options, target, outcome))
        with replacing(path) as work:
            work.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SinkError(f"cannot add to {path} ({error}); expected a report of ovs-build, or nothing there") from error


def _row(bundle: Bundle, options: PlanOptions, target: Target, outcome: PlanOutcome) -> dict[str, Any]:
    built = outcome.built
    return {
        "bundle": bundle.manifest.name,
        "bundle_digest": bundle.digest,
        "input_size": list(bundle.manifest.input_size),
        "precision": outcome.candidate.precision,
        "formulation": outcome.candidate.formulation,
        "target": asdict(target),
        "profiles": [str(profile) for profile in options.profiles],
        "level": LEVEL if options.level is None else options.level,
        "engine_bytes": built.size,
        "build_seconds": round(built.seconds, 1),
        "peak_mib": built.peak_mib,
        "layers": summary(built.layers),
        "int8_layers": [layer.name for layer in built.layers if layer.quantised],
        "linear_grid_samples": sum(layer.linear is True for layer in built.layers),
        "parity": outcome.parity.to_dict() if outcome.parity is not None else None,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "machine": (
            f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        ),
    }
