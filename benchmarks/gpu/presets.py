"""Latency of published sizes of model: presets with random weights, exported here, beside torch eager and compiled.

Latency does not depend on the weights. Labels do: with random weights most pixels are near ties, so labels are not
compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from ...bundle.errors import OvsError
from ...bundle.files import replacing
from ...export.bundle_writer import export_segmenter
from ...export.clip.export import clip_onnx
from ...export.clip.graph import ClipDenseGraph
from ...export.clip.options import ClipExportRequest
from ...export.graph import SegmenterGraph
from ...export.onnx_writer import save
from ...export.options import ExportRequest, resolve
from ...runtime.engines.onnx_runtime import open_graph
from ...runtime.stopwatch import burst_times
from ...segmenter.clip_dense.config import ClipDenseConfig, ClipVisionConfig
from ...segmenter.clip_dense.model import ClipDense
from ...segmenter.config import TextConfig
from ..speed.models import open_model
from .roofline import DevicePeak, bound_ms, count_work

CLIP_PRESETS = {"clip_b16": True, "clip_b16_whole": False}  # CLIP ViT-B/16: whether in windows, or in one pass


@dataclass(frozen=True)
class PresetRow:
    """One preset at one size, with K classes of one name, by one engine."""

    model: str
    side: int  # of the square input, pixels
    classes: int  # K
    engine: str  # "onnxruntime cpu", "onnxruntime cuda", "torch eager fp16", "torch compile fp16", …
    milliseconds: float  # median of the network with its copies
    bound_ms: float | None  # roofline bound; None without a measured peak
    gflops: float  # of products and convolutions, a multiply-add is 2


@dataclass(frozen=True)
class PresetRequest:
    """What to measure."""

    sides: Sequence[int]
    classes: Sequence[int]  # K
    providers: Sequence[str]  # of ONNX Runtime: "cpu", "cuda"
    runs: int
    peaks: Sequence[DevicePeak]
    deadline: float  # `time.monotonic` after which nothing more is begun


def measure_presets(
    names: Sequence[str], request: PresetRequest, folder: Path, tell: Callable[[str], None]
) -> tuple[list[PresetRow], list[str]]:
    """Rows of every preset and size, and what was left out with the reason. Graphs are written into `folder`."""
    rows: list[PresetRow] = []
    left_out: list[str] = []
    for name in names:
        for side in request.sides:
            if time.monotonic() > request.deadline:
                left_out.append(f"{name} {side}x{side}: out of time")
                continue
            tell(f"{name} at {side}x{side}")
            try:
                rows += _measure(name, side, request, folder, left_out)
            except (OvsError, RuntimeError) as error:  # torch reports too little memory as a RuntimeError
                left_out.append(f"{name} {side}x{side}: {' '.join(str(error).split())[:200]}")
    return rows, left_out


def _measure(name: str, side: int, request: PresetRequest, folder: Path, left_out: list[str]) -> Iterator[PresetRow]:
    opened = open_clip_preset(name, side) if name in CLIP_PRESETS else _open(name, side)
    path = folder / f"{name}_{side}.onnx"
    if not path.is_file():
        with replacing(path) as unfinished:  # a kit that is stopped while it writes leaves no half a graph
            save(opened.export(), unfinished)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    sessions = {provider: open_graph(path, 0, provider) for provider in request.providers}
    for classes in request.classes:
        vectors = rng.standard_normal((classes, 1, opened.dim)).astype(np.float32)
        feeds: dict[str, Any] = {"image": image, "text_embeddings": vectors}
        work = count_work(path, feeds)
        gflops = sum(one.flops for one in work) / 1e9
        actions: dict[str, Callable[[], object]] = {
            f"onnxruntime {provider}": partial(session.run, None, feeds) for provider, session in sessions.items()
        }
        actions |= _torch_actions(opened.graph, feeds)
        for engine, action in actions.items():
            if time.monotonic() > request.deadline:
                left_out.append(f"{name} {side}x{side} K={classes} {engine}: out of time")
                continue
            try:
                with torch.inference_mode():
                    times = burst_times([action], rounds=1, untimed=2, burst=request.runs)
            except Exception as error:  # noqa: BLE001 - what torch.compile cannot do, too little memory: anything
                left_out.append(f"{name} {side}x{side} K={classes} {engine}: {' '.join(str(error).split())[:200]}")
                continue
            precision, provider = ("fp16" if "fp16" in engine else "fp32"), ("cpu" if "cpu" in engine else "cuda")
            peak = next((one for one in request.peaks if (one.provider, one.precision) == (provider, precision)), None)
            bound = None if peak is None else round(bound_ms(work, peak, precision), 3)
            yield PresetRow(name, side, classes, engine, round(float(times[0, 0]), 3), bound, round(gflops, 2))


@dataclass(frozen=True)
class OpenedPreset:
    """A preset as a torch module with the inputs and outputs of an exported graph, and how it becomes one."""

    graph: nn.Module
    dim: int  # D of the text vectors
    export: Callable[[], onnx.ModelProto]


def _open(name: str, side: int) -> OpenedPreset:
    model = open_model(name)
    options = resolve(model.config, ExportRequest((side, side)))
    graph = SegmenterGraph(model, options.masks, options.decoder_layers, torch.int32)
    return OpenedPreset(graph, model.config.text.dim, lambda: export_segmenter(model, options))


def open_clip_preset(name: str, side: int) -> OpenedPreset:
    """One of `CLIP_PRESETS` with random weights, by the recipe that exports follow by default."""
    vision = ClipVisionConfig(patch=16, width=768, layers=12, heads=12, dim=512, grid=14, quick_gelu=True)
    text = TextConfig("clip", vision.dim, 77, 12, 512, 8, 49408, vision.quick_gelu, ("{}",))
    torch.manual_seed(0)
    model = ClipDense(ClipDenseConfig(name, vision, text, windows=CLIP_PRESETS[name])).eval()
    request = ClipExportRequest((side, side), windows=CLIP_PRESETS[name])
    return OpenedPreset(ClipDenseGraph(model, (side, side), torch.int32), vision.dim, lambda: clip_onnx(model, request))


def _torch_actions(graph: nn.Module, feeds: dict[str, Any]) -> dict[str, Callable[[], object]]:
    """Eager and compiled torch: FP16 autocast on a GPU, FP32 eager on a CPU."""
    graph.eval()
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    graph.to(device)
    inputs = [torch.from_numpy(feeds[name]) for name in ("image", "text_embeddings")]

    def run(module: Callable[..., Any]) -> object:
        with torch.autocast(device.type, torch.float16, enabled=on_gpu):
            outputs = module(*(array.to(device) for array in inputs))
        return [output.cpu() for output in outputs]

    if not on_gpu:
        return {"torch eager fp32, cpu": partial(run, graph)}
    return {"torch eager fp16": partial(run, graph), "torch compile fp16": partial(run, torch.compile(graph))}
