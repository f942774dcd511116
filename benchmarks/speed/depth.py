"""Latency by decoder depth: ONNX Runtime beside eager torch, interleaved in one run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ...export.bundle_writer import export_segmenter
from ...export.graph import SegmenterGraph
from ...export.onnx_writer import Port, save, to_onnx
from ...export.options import ExportRequest, parse_size, resolve
from ...runtime.engines.onnx_runtime import open_graph
from ...runtime.stopwatch import burst_times
from ...segmenter.model import ImageModel

CLASSES, NAMES = 20, 1  # K, S


@dataclass(frozen=True)
class DepthResult:
    """One model at one depth. Times are medians in milliseconds."""

    model: str
    parameters_m: float  # millions, of the segmenter without its text encoder
    input_size: tuple[int, int]  # height, width
    masks: str  # exact or fast
    decoder_layers: int
    gflops: float  # a multiply-add is 2; counted by torch's FlopCounterMode, which does not count GridSample
    onnx_ms: float  # ONNX Runtime, FP32
    torch_ms: float  # eager torch, the same graph
    backbone_ms: float  # the backbone alone in ONNX Runtime, FP32: a reference for machines whose speed varies
    speedup: float  # torch over ONNX Runtime
    threads: int
    runs: int


def measure_depth(
    model: ImageModel,
    depths: list[int],
    size: str | None = None,
    *,
    threads: int = 2,
    runs: int = 7,
    on_step: Callable[[str], None] = lambda step: None,
) -> list[DepthResult]:
    """Export at every depth, then time both engines, interleaved."""
    torch.set_num_threads(threads)
    model.requires_grad_(requires_grad=False)  # the FLOP counter also counts the backward pass otherwise
    config = model.config
    actions: dict[tuple[int, str], Callable[[], object]] = {}
    flops: dict[int, float] = {}
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((CLASSES, NAMES, config.text.dim)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        for depth in depths:
            on_step(f"exporting {config.name} with {depth} decoder layers")
            options = resolve(config, ExportRequest(parse_size(size) if size else None, depth or None))
            path = Path(folder) / f"{depth}.onnx"
            save(export_segmenter(model, options), path)
            image = rng.integers(0, 256, (1, *options.size, 3), dtype=np.uint8)
            session = open_graph(path, threads, "cpu")
            graph = SegmenterGraph(model, options.masks, depth, torch.int32)
            inputs = (torch.from_numpy(image), torch.from_numpy(vectors))
            flops[depth] = _flops(graph, inputs)
            feeds = {"image": image, "text_embeddings": vectors}
            actions[depth, "onnx"] = partial(session.run, None, feeds)
            actions[depth, "torch"] = partial(graph, *inputs)
        path = Path(folder) / "backbone.onnx"
        save(to_onnx(model.backbone, (torch.zeros(1, 3, *options.size),), (Port("image"),), ("2", "3", "4", "5")), path)
        pixels = rng.standard_normal((1, 3, *options.size)).astype(np.float32)
        actions[0, "backbone"] = partial(open_graph(path, threads, "cpu").run, None, {"image": pixels})
        on_step(f"timing {config.name}")
        with torch.no_grad():
            # One untimed run before each timed one: threads of the other engine may still spin.
            medians = np.median(burst_times(list(actions.values()), runs, untimed=1, burst=1), axis=0)
        times = dict(zip(actions, map(float, medians), strict=True))
    return [
        DepthResult(
            config.name,
            round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2),
            options.size,
            options.masks,
            depth,
            round(flops[depth] / 1e9, 2),
            round(times[depth, "onnx"], 1),
            round(times[depth, "torch"], 1),
            round(times[0, "backbone"], 1),
            round(times[depth, "torch"] / times[depth, "onnx"], 2),
            threads,
            runs,
        )
        for depth in depths
    ]


def _flops(graph: SegmenterGraph, inputs: tuple[torch.Tensor, ...]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        graph(*inputs)
    return float(counter.get_total_flops())
