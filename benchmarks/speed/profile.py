"""Time of each layer of the network: ONNX Runtime's profile, mapped to the names of the torch modules.

The engine fuses and renames nodes. Its optimised graph states which value each kernel computes, and the exported graph
states which node, named after its torch module, computes that value.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...bundle.bundle import Bundle
from ...bundle.errors import require
from ..machine.conditions import ConditionMonitor, sample_warnings

_KERNEL = "_kernel_time"  # suffix of the names of node events
_BLOCKED = "_nchwc"  # suffix of kernels in the blocked memory layout
_CLIMB = 12  # nodes searched for the source of a fused kernel
_NO_MODULE = "(around the model)"
# Kernels and the operator of the exported graph that they compute, often fused with what follows.
_PLAIN = {"FusedConv": "Conv", "QLinearConv": "Conv", "ConvInteger": "Conv", "QLinearMatMul": "MatMul", "QGemm": "Gemm"}


@dataclass(frozen=True)
class LayerTime:
    """Time of one torch module, without its submodules."""

    module: str  # dotted name
    operators: tuple[str, ...]  # its kernels
    ms: float  # of a run, mean
    share: float  # of all kernels


@dataclass(frozen=True)
class LayerProfile:
    """One bundle and precision on this machine."""

    bundle: str
    precision: str
    input_size: tuple[int, int]  # height, width
    classes: int  # K
    threads: int
    runs: int
    network_ms: float  # of a run, mean, with the profiler on
    kernels_ms: float  # of that, time in kernels
    layers: tuple[LayerTime, ...]  # slowest first
    doubts: tuple[str, ...]  # warnings about the measurement


def measure_profile(bundle: Bundle, precision: str, classes: int, threads: int, runs: int) -> LayerProfile:
    """Profile ONNX Runtime on the CPU, with random pictures and vectors, as many as the graph takes in a run.

    Needs the `onnx` package.
    """
    ort, onnx = require("onnxruntime", "cpu"), require("onnx", "calibrate")
    path, (height, width) = bundle.graph(precision), bundle.manifest.input_size
    rng = np.random.default_rng(0)
    batch, shape = bundle.manifest.batch, (classes, 1, bundle.manifest.text.dim)
    vectors = rng.standard_normal(shape if batch == 1 else (batch, *shape)).astype(np.float32)
    with TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        warm = max(3, runs // 5)
        watch = ConditionMonitor()
        with watch:
            for _ in range(warm + runs):
                image = rng.integers(0, 256, (batch, height, width, 3), dtype=np.uint8)
                session.run(["labels", "confidence"], {"image": image, "text_embeddings": vectors})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = onnx.load(f"{folder}/optimized.onnx", load_external_data=False).graph
        names = _Names(graph.node, onnx.load(str(path), load_external_data=False).graph.node)
    whole = sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"])[warm:]
    spent: dict[str, float] = defaultdict(float)
    operators: dict[str, dict[str, None]] = defaultdict(dict)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL) and event["ts"] >= whole[0]["ts"]:
            operator = event["args"]["op_name"]
            module = names.module(event["name"].removesuffix(_KERNEL), operator)
            spent[module] += event["dur"] / 1e3 / runs
            operators[module][operator] = None
    total = sum(spent.values())
    assert watch.conditions is not None
    layers = [LayerTime(name, tuple(operators[name]), round(ms, 4), round(ms / total, 4)) for name, ms in spent.items()]
    return LayerProfile(
        bundle=bundle.manifest.name,
        precision=precision,
        input_size=(height, width),
        classes=classes,
        threads=threads,
        runs=runs,
        network_ms=round(sum(event["dur"] for event in whole) / 1e3 / runs, 3),
        kernels_ms=round(total, 3),
        layers=tuple(sorted(layers, key=lambda layer: -layer.ms)),
        doubts=(*watch.conditions.warnings, *sample_warnings([[event["dur"] / 1e3] for event in whole])),
    )


class _Names:
    """Kernels of the optimised graph -> torch modules of the exported one."""

    def __init__(self, optimised: Iterable[Any], exported: Iterable[Any]) -> None:
        self._kernels = {node.name: node for node in optimised}
        self._exported_producers = {value: node for node in exported for value in node.output}
        self._exported = {node.name for node in self._exported_producers.values()}
        self._producers = {value: node for node in self._kernels.values() for value in node.output}

    def module(self, kernel: str, operator: str) -> str:
        """Dotted name of the module that a kernel belongs to."""
        name = kernel
        while name:  # a fusion appends its name to that of a node: …/MatMul/MatMulAddFusion
            if name in self._exported:
                return _module(name)
            name = name.rpartition("/")[0]
        node, seen = self._kernels.get(kernel), 0
        while node is not None and seen < _CLIMB:
            # A kernel in the blocked layout is named after the value that it replaces.
            for value in (node.name.removesuffix(_BLOCKED), *node.output):
                if value in self._exported_producers:
                    return _module(self._source(self._exported_producers[value], operator).name)
            # A value that the engine added, such as a reordered copy: its input has a name.
            node = next((self._producers[value] for value in node.input if value in self._producers), None)
            seen += 1
        return _NO_MODULE

    def _source(self, node: Any, operator: str) -> Any:
        """The node upstream of `node` that a fused kernel is named after: the convolution before its activation."""
        wanted, queue = _PLAIN.get(operator, operator), [node]
        for candidate in queue:  # extended while it is iterated
            if candidate.op_type == wanted:
                return candidate
            if len(queue) < _CLIMB:
                queue += [
                    self._exported_producers[value] for value in candidate.input if value in self._exported_producers
                ]
        return node


def _module(node: str) -> str:
    """`backbone.stages.0.1/Conv_2` -> `backbone.stages.0.1`."""
    return node.rpartition("/")[0] or _NO_MODULE


def grouped(profile: LayerProfile, depth: int) -> list[tuple[str, float]]:
    """Milliseconds by the first `depth` parts of the modules' names, slowest first."""
    sums: dict[str, float] = defaultdict(float)
    for layer in profile.layers:
        sums[".".join(layer.module.split(".")[:depth])] += layer.ms
    return sorted(sums.items(), key=lambda item: -item[1])
