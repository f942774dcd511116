"""Where the network's time goes: ONNX Runtime's own profile, told in the names of the torch modules.

The engine fuses and renames what it runs. Its optimised graph still says which value each kernel computes, and the
exported graph says which node, named after its torch module, that value came from.
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

_KERNEL = "_kernel_time"  # what ends the names of a profile's node events
_BLOCKED = "_nchwc"  # likewise, of kernels that the engine has moved to its blocked layout
_CLIMB = 12  # nodes that a fused kernel may stand for
_NO_MODULE = "(around the model)"
# Kernels that stand for an operator of the exported graph, often together with what follows it.
_PLAIN = {"FusedConv": "Conv", "QLinearConv": "Conv", "ConvInteger": "Conv", "QLinearMatMul": "MatMul", "QGemm": "Gemm"}


@dataclass(frozen=True)
class LayerTime:
    """One torch module's own part of the network."""

    module: str  # dotted name
    operators: tuple[str, ...]  # the kernels that ran for it
    ms: float  # a run, mean
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
    network_ms: float  # a run, mean, with the profiler at work
    kernels_ms: float  # of that, the kernels; the rest is between them
    layers: tuple[LayerTime, ...]  # slowest first
    doubts: tuple[str, ...]  # why the figures may not be trusted


def measure_profile(bundle: Bundle, precision: str, classes: int, threads: int, runs: int) -> LayerProfile:
    """Profile ONNX Runtime on the CPU, with random pictures and vectors. Needs the `onnx` package."""
    ort, onnx = require("onnxruntime", "cpu"), require("onnx", "export")
    path, (height, width) = bundle.graph(precision), bundle.manifest.input_size
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((classes, 1, bundle.manifest.text.dim)).astype(np.float32)
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
                image = rng.integers(0, 256, (1, height, width, 3), dtype=np.uint8)
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
        self._makers = {value: node for node in exported for value in node.output}
        self._exported = {node.name for node in self._makers.values()}
        self._givers = {value: node for node in self._kernels.values() for value in node.output}

    def module(self, kernel: str, operator: str) -> str:
        """Dotted name of the module that a kernel works for."""
        name = kernel
        while name:  # a fusion appends its own name to that of a node: …/MatMul/MatMulAddFusion
            if name in self._exported:
                return _module(name)
            name = name.rpartition("/")[0]
        node, seen = self._kernels.get(kernel), 0
        while node is not None and seen < _CLIMB:
            # A kernel of the blocked layout is called after the value that it took the place of.
            for value in (node.name.removesuffix(_BLOCKED), *node.output):
                if value in self._makers:
                    return _module(self._source(self._makers[value], operator).name)
            # A value of the engine's own, a reordered copy say: what it was made from has a name.
            node = next((self._givers[value] for value in node.input if value in self._givers), None)
            seen += 1
        return _NO_MODULE

    def _source(self, node: Any, operator: str) -> Any:
        """The node upstream of `node` that a fused kernel is named after: the convolution before its activation."""
        wanted, queue = _PLAIN.get(operator, operator), [node]
        for candidate in queue:  # grows while it is walked
            if candidate.op_type == wanted:
                return candidate
            if len(queue) < _CLIMB:
                queue += [self._makers[value] for value in candidate.input if value in self._makers]
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
