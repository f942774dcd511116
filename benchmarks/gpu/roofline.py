"""Roofline of a device: measured floating-point rate and bandwidth, and the least time that they allow a graph.

Rate and bandwidth come from a matrix product and an element-wise addition in ONNX Runtime, on the same provider and in
the same run as the figures they are compared with (Williams et al., Roofline, CACM 2009). The bound of a graph is the
sum over its products and convolutions of the larger of computing and moving time; all other nodes are taken to be fused
into those, so a share of 100 % cannot be reached.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import BundleError, require
from ...runtime.engines.onnx_runtime import EXACT_PRODUCTS

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_WARMUP, _RUNS = 3, 10
_SECONDS = 20.0  # of one peak, after which its runs end early
_HALF = {"fp32": 1.0, "fp16": 0.5, "int8": 0.25, "int8-cpu": 0.25}  # bytes of a value relative to FP32


@dataclass(frozen=True)
class DevicePeak:
    """Measured limits of a device."""

    provider: str  # "cpu" or "cuda"
    precision: str  # "fp32" or "fp16"
    tflops: float  # of the matrix product; a multiply-add is 2
    gb_per_s: float  # read and written by the addition


@dataclass(frozen=True)
class Work:
    """One product or convolution of a graph."""

    flops: float
    values: float  # read and written, weights included


def measure_peak(provider: str, precision: str, side: int, copied: int) -> DevicePeak:
    """Time a product of two `side` x `side` matrices and an addition over `copied` bytes; needs the `onnx` package."""
    dtype: Any = np.float16 if precision == "fp16" else np.float32
    with TemporaryDirectory() as folder:
        product = _graph(Path(folder) / "product.onnx", "MatMul", dtype)
        addition = _graph(Path(folder) / "addition.onnx", "Add", dtype)
        # Not of ones: a GPU needs less power for them and clocks higher.
        square = np.random.default_rng(0).standard_normal((side, side), np.float32).astype(dtype)
        seconds = _best_seconds(product, provider, [square, square])
        flat = np.ones(copied // square.itemsize, dtype)
        moved = _best_seconds(addition, provider, [flat, np.ones(1, dtype)])
    return DevicePeak(provider, precision, 2 * side**3 / seconds / 1e12, 2 * copied / moved / 1e9)


def count_work(path: Path, feeds: dict[str, npt.NDArray[Any]]) -> list[Work]:
    """Products and convolutions of a graph, from one unoptimised run on the CPU with its profiler on.

    Raises `BundleError` for a graph that does not load.
    """
    ort = require("onnxruntime", "cpu")
    with TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/work"
        try:
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the binding raises many unrelated types
            raise BundleError(f"onnxruntime cannot load {path} ({error}); export the bundle again") from error
        session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [work for event in events if (work := _work(event.get("args", {}))) is not None]


def bound_ms(work: Sequence[Work], peak: DevicePeak, precision: str) -> float:
    """Least milliseconds of a graph at a device's peak, its values stored in `precision`."""
    size = 4 * _HALF.get(precision, 1.0)
    seconds = [max(one.flops / (peak.tflops * 1e12), one.values * size / (peak.gb_per_s * 1e9)) for one in work]
    return 1e3 * sum(seconds)


def roofline(
    providers: Sequence[str], side: int, copied: int, deadline: float = math.inf
) -> tuple[list[dict[str, Any]], list[str]]:
    """Peaks of every provider, in FP32 and on CUDA in FP16 as well, as result rows; and what `deadline` left out."""
    wanted = [(name, "fp32") for name in providers] + [(name, "fp16") for name in providers if name == "cuda"]
    rows: list[dict[str, Any]] = []
    left_out: list[str] = []
    for name, precision in wanted:
        if time.monotonic() > deadline:
            left_out.append(f"{name} {precision}: out of time")
        else:
            rows.append(asdict(measure_peak(name, precision, side, copied)))
    return rows, left_out


def _work(arguments: dict[str, Any]) -> Work | None:
    inputs, outputs = _shapes(arguments.get("input_type_shape")), _shapes(arguments.get("output_type_shape"))
    operator = arguments.get("op_name")
    if not inputs or not outputs or not inputs[0] or not outputs[0] or operator not in ("Conv", "MatMul", "Gemm"):
        return None
    result, values = prod(outputs[0]), sum(map(prod, inputs))
    # The profile leaves out weights of products that ONNX Runtime has packed; no exported graph transposes the first.
    depth = prod(inputs[1][1:]) if operator == "Conv" else inputs[0][-1]
    if operator != "Conv" and len(inputs) == 1:
        values += depth * outputs[0][-1]
    return Work(2.0 * result * depth, float(values + result))


def _shapes(entries: Any) -> list[list[int]]:
    """`[{"float": [1, 3, 384, 384]}, …]` -> shapes."""
    return [list(shape) for entry in entries or [] for shape in entry.values()]


def _graph(path: Path, operator: str, dtype: Any) -> Path:
    """A graph of one operator with two inputs."""
    onnx = require("onnx", "calibrate")
    kind = onnx.TensorProto.FLOAT16 if dtype == np.float16 else onnx.TensorProto.FLOAT
    axes = [None, None] if operator == "MatMul" else [None]
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["a", "b"], ["c"])],
        operator,
        [make("a", kind, axes), make("b", kind, axes)],
        [make("c", kind, axes)],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def _best_seconds(path: Path, provider: str, arrays: Sequence[npt.NDArray[Any]]) -> float:
    """Shortest of some runs with inputs and output on the device."""
    ort = require("onnxruntime", "cpu")
    session = ort.InferenceSession(
        str(path), providers=[(_PROVIDERS[provider], EXACT_PRODUCTS if provider == "cuda" else {})]
    )
    binding = session.io_binding()
    for name, array in zip(("a", "b"), arrays, strict=True):
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, provider, 0))
    binding.bind_output("c", provider)
    times: list[float] = []
    # A slow device needs no ten runs of a product that takes seconds.
    while len(times) < _WARMUP + 1 or (len(times) < _WARMUP + _RUNS and sum(times) < _SECONDS):
        binding.synchronize_inputs()
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        times.append(time.perf_counter() - start)
    return min(times[_WARMUP:])
