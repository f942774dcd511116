"""Runs the parts of the GPU kit, keeps each part's result as soon as it is there, and continues an interrupted run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.errors import MissingExtraError, OvsError, SinkError, UsageError, require
from ...bundle.files import replacing
from ...runtime.capture.registry import open_source
from ...runtime.inference.preprocess import to_input
from .capabilities import Capabilities
from .parity import ParityRow, measure_parity
from .plan import Scale
from .roofline import DevicePeak, roofline

_STATE = ".parts.state"  # JSON; not named so, since every *.json of the folder is a result
_LEAST_SECONDS = 120.0  # of the presets, whose export alone takes a dozen
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Kit:
    """One run of the kit."""

    folder: Path  # of the results
    bundles: tuple[Path, ...]
    scale: Scale
    capabilities: Capabilities
    threads: int  # of the CPU; 0: one per core

    @property
    def backends(self) -> tuple[str, ...]:
        """Backends that are measured."""
        return ("cpu",) if self.scale.cpu_only else self.capabilities.backends

    @property
    def providers(self) -> tuple[str, ...]:
        """Providers of ONNX Runtime that are measured."""
        return tuple(name for name in ("cpu", "cuda") if name in self.backends)

    @property
    def key(self) -> dict[str, Any]:
        """What the results of all parts depend on; a run of another key cannot continue this one."""
        return {
            "bundles": [Bundle.open(path, verify=False).digest for path in self.bundles],
            "scale": json.loads(json.dumps(asdict(self.scale))),
            "gpu": self.capabilities.gpu,
            "packages": self.capabilities.packages,
        }


Part = Callable[[Kit, dict[str, Any], Tell], dict[str, Any]]


def run_parts(kit: Kit, parts: tuple[str, ...], tell: Tell) -> dict[str, Any]:
    """Results by part: its "seconds", and what it measured, "left_out" with reasons, or "error".

    A finished part is not run again; a failed one is. Raises `UsageError` for a folder with a run of other bundles,
    packages or scale, `SinkError` where the state cannot be written.
    """
    state = _read_state(kit)
    done: dict[str, Any] = state["parts"]
    for name in parts:
        if name in done and "error" not in done[name]:
            tell(f"{name}: done before")
            continue
        tell(f"{name}: up to {kit.scale.seconds / 60:.1f} minutes")
        start = time.monotonic()
        try:
            result = _PARTS[name](kit, done, tell)
        except MissingExtraError as error:
            result = {"left_out": [str(error)]}
            tell(f"{name}: left out: {error}")
        except OvsError as error:
            result = {"error": str(error)}
            tell(f"{name} failed: {error}")
        done[name] = {"seconds": round(time.monotonic() - start, 1), **json.loads(json.dumps(result))}
        _write_state(kit, state)
    return {name: done[name] for name in parts}


def forget(kit: Kit) -> None:
    """Remove the state of an unfinished run, once its result is written."""
    (kit.folder / _STATE).unlink(missing_ok=True)


def _read_state(kit: Kit) -> dict[str, Any]:
    path, key = kit.folder / _STATE, kit.key
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        same, parts = found["key"] == key, dict(found["parts"])
    except FileNotFoundError:
        return {"key": key, "parts": {}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not the state of a run ({error!r}); remove it to start anew") from error
    if not same:
        raise UsageError(
            f"{path} belongs to a run with other bundles, packages or options; choose another --results, or remove it"
        )
    return {"key": key, "parts": parts}


def _write_state(kit: Kit, state: dict[str, Any]) -> None:
    path = kit.folder / _STATE
    try:
        kit.folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as work:
            work.write_text(json.dumps(state), encoding="utf-8")
    except OSError as error:
        raise SinkError(f"cannot write {path} ({error}); free some space or choose another --results") from error


def _roofline(kit: Kit, done: dict[str, Any], tell: Tell) -> dict[str, Any]:
    return {"peaks": roofline(kit.providers, kit.scale.product, kit.scale.copied)}


def _parity(kit: Kit, done: dict[str, Any], tell: Tell) -> dict[str, Any]:
    corners = [(classes, names) for classes in kit.scale.classes for names in kit.scale.names]
    rows: list[ParityRow] = []
    left_out: list[str] = []
    for path in kit.bundles:
        bundle = Bundle.open(path, force=True)
        source = open_source("demo", None)
        try:
            frames = zip(source, range(kit.scale.pictures), strict=False)
            pictures = [to_input(frame.image, bundle.manifest.input_size)[0] for frame, _ in frames]
        finally:
            source.close()
        # On the CPU the reference itself, which shows that the comparison works; else every other backend.
        others = [name for name in kit.backends if name != "cpu"] or ["cpu"]
        found, skipped = measure_parity(bundle, others, corners, pictures, tell)
        rows += found
        left_out += skipped
    return {"rows": [{**asdict(row), "passed": row.passed} for row in rows], "left_out": left_out}


def _speed(kit: Kit, done: dict[str, Any], tell: Tell) -> dict[str, Any]:
    from ..speed.speed import Matrix, measure_speed

    matrix = Matrix(
        bundles=kit.bundles,
        precisions=("fp32",) if kit.scale.cpu_only else ("all",),
        backends=kit.backends if kit.scale.cpu_only else ("all",),
        classes=kit.scale.classes,
        threads=kit.threads,
        # Starting processes, warm-up and energy take time as well.
        seconds=kit.scale.seconds / 2,
    )
    result = asdict(measure_speed(matrix, tell))
    for row in result["rows"]:
        row.pop("rounds")  # samples of every burst, which make most of a speed result's size
        row["bound_ms"] = _bound(kit, row["subject"], done)
    return result


def _bound(kit: Kit, subject: dict[str, Any], done: dict[str, Any]) -> float | None:
    """Roofline bound of a row's network; None without a peak of its device and precision."""
    from .roofline import bound_ms, count_work

    provider = "cpu" if subject["backend"] == "cpu" else "cuda"
    peak = next(
        (one for one in _peaks(done) if (one.provider, one.precision) == (provider, subject["precision"])), None
    )
    path = next((one for one in kit.bundles if one.name.removesuffix(".ovs") == subject["model"]), None)
    if peak is None or path is None:
        return None
    bundle = Bundle.open(path, verify=False)
    feeds: dict[str, Any] = {
        "image": np.zeros((1, *bundle.manifest.input_size, 3), np.uint8),
        "text_embeddings": np.ones((subject["classes"], subject["names"], bundle.manifest.text.dim), np.float32),
    }
    return round(bound_ms(count_work(bundle.graph("fp32"), feeds), peak, subject["precision"]), 3)


def _peaks(done: dict[str, Any]) -> list[DevicePeak]:
    return [DevicePeak(**row) for row in done.get("roofline", {}).get("peaks", [])]


def _presets(kit: Kit, done: dict[str, Any], tell: Tell) -> dict[str, Any]:
    if not kit.scale.presets:
        return {"rows": [], "left_out": ["no preset was asked for"]}
    require("torch", "export")
    require("onnx", "export")
    from .presets import PresetRequest, measure_presets

    folder = kit.folder / "graphs"
    folder.mkdir(parents=True, exist_ok=True)
    request = PresetRequest(
        sides=kit.scale.sides,
        classes=kit.scale.classes,
        # The CPU would take most of the time.
        providers=[name for name in kit.providers if name != "cpu"] or ["cpu"],
        runs=kit.scale.runs,
        peaks=_peaks(done),
        deadline=time.monotonic() + max(kit.scale.seconds, _LEAST_SECONDS),
    )
    rows, left_out = measure_presets(kit.scale.presets, request, folder, tell)
    return {"rows": [asdict(row) for row in rows], "left_out": left_out}


def _pipeline(kit: Kit, done: dict[str, Any], tell: Tell) -> dict[str, Any]:
    from ..live.pipeline import measure_pipeline

    provider = "cuda" if "cuda" in kit.backends else "cpu"
    rounds = 1 if kit.scale.cpu_only else 3
    rows = [
        asdict(measure_pipeline(path, "demo", "fp32", kit.threads, kit.scale.frames, rounds, provider))
        for path in kit.bundles
    ]
    return {"provider": provider, "rows": rows}


def _live(kit: Kit, done: dict[str, Any], tell: Tell) -> dict[str, Any]:
    require("aiohttp", "web")
    from ..live.class_change import measure_live

    return {
        "rows": [asdict(measure_live(path, "demo", kit.threads, kit.scale.changes)) for path in kit.bundles],
    }


_PARTS: dict[str, Part] = {
    "roofline": _roofline,
    "parity": _parity,
    "speed": _speed,
    "presets": _presets,
    "pipeline": _pipeline,
    "live": _live,
}
