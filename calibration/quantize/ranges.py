"""Value ranges and channel means of tensors over the calibration images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from ...bundle.errors import require

Method = Literal["mse", "percentile", "min-max", "entropy"]
METHODS: tuple[str, ...] = get_args(Method)

_BINS = 2048
_KEPT = 0.9999  # share of a tensor's values inside its range, by percentile
_LEVELS = 128  # of a symmetric INT8 range, one sign
_CUTS = np.linspace(1.0, 0.3, 29)  # shares of the observed end that `mse` tries on either side
Feeds = Mapping[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]
Range = tuple[float, float]  # least and largest value of a tensor


@dataclass(frozen=True)
class Statistics:
    """Statistics over the calibration images."""

    ranges: dict[str, Range]  # tensor -> values that eight bits must cover
    means: dict[str, tuple[float, ...]]  # input of a convolution -> mean of each channel


def find_statistics(
    model: onnx.ModelProto,
    names: Sequence[str],
    images: Sequence[str],
    feeds: Sequence[Feeds],
    method: Method,
    tick: Callable[[], None],
) -> Statistics:
    """Ranges of `names` and channel means of `images` over all `feeds`; `tick` is called after each run of the graph.

    `names` are FP32 tensors of any shape, `images` those among them that are (1, C, H, W). `mse` takes the range with
    the least squared error of rounding and clipping, each end by itself; `min-max` takes the observed range;
    `percentile` clips the largest 0.01 %; `entropy` clips where the quantised distribution is nearest to the true one
    (Migacz, "8-bit inference with TensorRT", GTC 2017). The last two look at absolute values.
    """
    least, most, means = _extremes(model, names, images, feeds, tick)
    if method == "mse":
        return Statistics(_least_error(model, names, feeds, least, most, tick), means)
    if method == "min-max":
        limits = np.maximum(np.abs(least), np.abs(most))
    else:
        limits = _cut(model, names, feeds, np.maximum(np.abs(least), np.abs(most)), method, tick)
    ranges = {
        name: (float(max(low, -limit)), float(min(high, limit)))
        for name, low, high, limit in zip(names, least, most, limits, strict=True)
    }
    return Statistics(ranges, means)


def all_finite(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feeds]) -> bool:
    """Whether no tensor of `names` ever holds an infinity or NaN."""
    least, most, _ = _extremes(model, names, (), feeds, lambda: None)
    return bool(np.isfinite(least).all() and np.isfinite(most).all())


def runs(method: Method, feeds: int) -> int:
    """Number of runs of the graph in `find_statistics`."""
    return feeds if method == "min-max" else 2 * feeds


def _extremes(
    model: onnx.ModelProto,
    names: Sequence[str],
    images: Sequence[str],
    feeds: Sequence[Feeds],
    tick: Callable[[], None],
) -> tuple[Floats, Floats, dict[str, tuple[float, ...]]]:
    """Least and largest value of each tensor and channel means of the images, reduced inside the graph."""
    reduced = onnx.ModelProto()
    reduced.CopyFrom(model)
    wanted = []
    for kind, tensors in (("ReduceMin", names), ("ReduceMax", names), ("GlobalAveragePool", images)):
        for name in tensors:
            wanted.append(f"{name}.{kind}")
            shape: dict[str, Any] = {} if kind == "GlobalAveragePool" else {"keepdims": 0}
            reduced.graph.node.append(helper.make_node(kind, [name], [wanted[-1]], wanted[-1], **shape))
    session = open_session(reduced, wanted)
    count = len(names)
    least, most = np.full(count, np.inf), np.full(count, -np.inf)
    sums = [np.zeros(1)] * len(images)
    for feed in feeds:
        values = session.run(wanted, dict(feed))
        least = np.minimum(least, np.array(values[:count], np.float64))
        most = np.maximum(most, np.array(values[count : 2 * count], np.float64))
        sums = [total + value.ravel() for total, value in zip(sums, values[2 * count :], strict=True)]
        tick()
    means = {name: tuple((total / len(feeds)).tolist()) for name, total in zip(images, sums, strict=True)}
    return least, most, means


def _cut(
    model: onnx.ModelProto,
    names: Sequence[str],
    feeds: Sequence[Feeds],
    ends: Floats,
    method: Method,
    tick: Callable[[], None],
) -> Floats:
    """Largest absolute value that each tensor keeps; `ends` are the largest observed."""
    counts = np.zeros((len(names), _BINS))
    session = open_session(model, names)
    for feed in feeds:
        for row, end, values in zip(counts, ends, session.run(list(names), dict(feed)), strict=True):
            if end > 0:
                row += np.histogram(np.abs(values), _BINS, (0, float(end)))[0]
        tick()
    share = _percentile if method == "percentile" else _entropy
    return np.array([end * share(row) if end > 0 else 0.0 for end, row in zip(ends, counts, strict=True)])


def _least_error(
    model: onnx.ModelProto,
    names: Sequence[str],
    feeds: Sequence[Feeds],
    least: Floats,
    most: Floats,
    tick: Callable[[], None],
) -> dict[str, Range]:
    """Ranges with the least squared error, from histograms between the observed ends."""
    counts = np.zeros((len(names), _BINS))
    session = open_session(model, names)
    for feed in feeds:
        for row, low, high, values in zip(counts, least, most, session.run(list(names), dict(feed)), strict=True):
            if high > low:
                row += np.histogram(values, _BINS, (float(low), float(high)))[0]
        tick()
    return {
        name: _least_error_range(row, float(low), float(high)) if high > low else (float(low), float(high))
        for name, row, low, high in zip(names, counts, least, most, strict=True)
    }


def _least_error_range(counts: Floats, low: float, high: float) -> Range:
    """The range inside `low`..`high` with the least error of 256 levels for a histogram between them."""
    width = (high - low) / len(counts)
    centres = low + (np.arange(len(counts)) + 0.5) * width
    if low >= 0:
        counts = np.where(centres < width, 0, counts)  # zeros of a ReLU are exact at any scale
    lows = low * _CUTS if low < 0 else np.array([low])
    highs = high * _CUTS if high > 0 else np.array([high])
    below = np.array([(counts * np.square(np.minimum(centres - end, 0))).sum() for end in lows])
    above = np.array([(counts * np.square(np.maximum(centres - end, 0))).sum() for end in highs])
    span = np.maximum(highs, 0)[None, :] - np.minimum(lows, 0)[:, None]
    error = below[:, None] + above[None, :] + counts.sum() * np.square(span / 255) / 12
    row, column = np.unravel_index(int(np.argmin(error)), error.shape)
    return float(lows[row]), float(highs[column])


def open_session(model: onnx.ModelProto, outputs: Sequence[str]) -> Any:
    """A session of `model` with further outputs."""
    ort = require("onnxruntime", "calibrate")
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    own = {value.name for value in shown.graph.output}
    shown.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs if name not in own
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _percentile(counts: Floats) -> float:
    """Clipping point, relative to the largest value: the percentile."""
    total = np.cumsum(counts)
    return (int(np.searchsorted(total, _KEPT * total[-1])) + 1) / len(counts)


def _entropy(counts: Floats) -> float:
    """Clipping point, relative to the largest value, that loses least information."""
    # Zeros of a ReLU are exact at any scale and would outweigh all other values.
    counts = counts.copy()
    counts[0] = counts[1]
    best, least = len(counts), np.inf
    for stop in range(_LEVELS, len(counts) + 1, _LEVELS // 8):
        true = counts[:stop].copy()
        true[-1] += counts[stop:].sum()
        divergence = _divergence(true, _coarse(counts[:stop]))
        if divergence < least:
            best, least = stop, divergence
    return best / len(counts)


def _coarse(counts: Floats) -> Floats:
    """Counts after quantisation to `_LEVELS` levels: each level's sum spread over its bins that are not empty."""
    level = np.arange(len(counts)) * _LEVELS // len(counts)
    filled = counts > 0
    sums, bins = np.bincount(level, counts, _LEVELS), np.bincount(level, filled, _LEVELS)
    return np.where(filled, (sums / np.maximum(bins, 1))[level], 0.0)


def _divergence(true: Floats, other: Floats) -> float:
    """Kullback-Leibler divergence; a value that `other` cannot have counts as very rare there."""
    p = true / true.sum()
    q = np.maximum(other / max(other.sum(), 1.0), 1e-12)
    inside = p > 0
    return float((p[inside] * np.log(p[inside] / q[inside])).sum())
