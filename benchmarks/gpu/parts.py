"""The parts of the GPU kit. Each begins nothing more once its time is over, and says what it left out."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import require
from ...runtime.capture.registry import open_source
from ...runtime.inference.preprocess import to_input
from .frames import measure_frames
from .kit import Kit, Part, Tell
from .parity import ParityRow, measure_parity
from .roofline import DevicePeak, roofline

_OPENING, _MEASURING = 0.4, 0.4  # of the speed part's time; the rest is for warm-up and energy


def _roofline(kit: Kit, done: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
    rows, left_out = roofline(kit.providers, kit.scale.product, kit.scale.copied, deadline)
    return {"peaks": rows, "left_out": left_out}


def _parity(kit: Kit, done: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
    corners = [(classes, names) for classes in kit.scale.classes for names in kit.scale.names]
    rows: list[ParityRow] = []
    left_out: list[str] = []
    for path in kit.bundles:
        bundle = Bundle.open(path, force=True)
        # On the CPU the reference itself, which shows that the comparison works; else every other backend.
        others = [name for name in kit.backends if name != "cpu"] or ["cpu"]
        found, skipped = measure_parity(bundle, others, corners, _pictures(bundle, kit.scale.pictures), tell, deadline)
        rows += found
        left_out += skipped
    return {"rows": [{**asdict(row), "passed": row.passed} for row in rows], "left_out": left_out}


def _pictures(bundle: Bundle, count: int) -> list[npt.NDArray[np.uint8]]:
    """Network inputs (1, H, W, 3) from the packaged clip."""
    source = open_source("demo", None)
    try:
        frames = zip(source, range(count), strict=False)
        return [to_input(frame.image, bundle.manifest.input_size)[0] for frame, _ in frames]
    finally:
        source.close()


def _frames(kit: Kit, done: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
    backend = "cuda" if "cuda" in kit.backends else "cpu"
    if backend == "cpu" and not kit.scale.cpu_only:
        return {
            "left_out": ["frames are resized on the GPU by ONNX Runtime's CUDA provider, which cannot be used here"]
        }
    rows, left_out = [], []
    for path in kit.bundles:
        found, skipped = measure_frames(Bundle.open(path, force=True), backend, kit.scale.frame_sizes, tell, deadline)
        rows += found
        left_out += skipped
    return {"rows": [{**asdict(row), "passed": row.passed} for row in rows], "left_out": left_out}


def _speed(kit: Kit, done: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
    from ..speed.speed import Matrix, measure_speed

    matrix = Matrix(
        bundles=kit.bundles,
        precisions=("fp32",) if kit.scale.cpu_only else ("all",),
        backends=kit.backends if kit.scale.cpu_only else ("all",),
        classes=kit.scale.classes,
        threads=kit.threads,
        seconds=kit.scale.seconds * _MEASURING if kit.scale.measured is None else kit.scale.measured,
        open_until=time.monotonic() + kit.scale.seconds * _OPENING,
        deadline=deadline,
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


def _presets(kit: Kit, done: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
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
        deadline=deadline,
    )
    rows, left_out = measure_presets(kit.scale.presets, request, folder, tell)
    return {"rows": [asdict(row) for row in rows], "left_out": left_out}


def _pipeline(kit: Kit, done: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
    from ..live.pipeline import measure_pipeline

    providers = [name for name in kit.backends if name in ("cuda", "cuda-graphs")] or ["cpu"]
    rows, left_out = [], []
    for path in kit.bundles:
        for provider in providers:
            if time.monotonic() > deadline:
                left_out.append(f"{path.name} on {provider}: out of time")
                continue
            tell(f"pipeline of {path.name} on {provider}")
            rounds = 1 if kit.scale.cpu_only else 3
            result = measure_pipeline(path, "demo", "fp32", kit.threads, kit.scale.frames, rounds, provider, deadline)
            rows.append({"provider": provider, **asdict(result)})
    return {"rows": rows, "left_out": left_out}


def _live(kit: Kit, done: dict[str, Any], tell: Tell, deadline: float) -> dict[str, Any]:
    require("aiohttp", "web")
    from ..live.class_change import measure_live

    rows, left_out = [], []
    for path in kit.bundles:
        if time.monotonic() > deadline:
            left_out.append(f"{path.name}: out of time")
            continue
        tell(f"class changes of {path.name}")
        rows.append(asdict(measure_live(path, "demo", kit.threads, kit.scale.changes, deadline=deadline)))
    return {"rows": rows, "left_out": left_out}


PARTS: dict[str, Part] = {
    "roofline": _roofline,
    "parity": _parity,
    "frames": _frames,
    "speed": _speed,
    "presets": _presets,
    "pipeline": _pipeline,
    "live": _live,
}
