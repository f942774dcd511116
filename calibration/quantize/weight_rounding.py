"""Rounds weights so that a layer's output changes least, not each weight by itself.

Inputs of a layer are correlated: neighbouring pixels are alike, and ReLUs leave no negative ones. So the rounding error
of one weight can be made up for by the rounding of the next ones (Frantar et al., "Optimal Brain Compression",
NeurIPS 2022, and "GPTQ", ICLR 2023). The file and its speed stay the same; only the last bits of weights differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto

from ..graph.layers import QuantizableLayer, weight_values
from ..graph.rewriting import attributes
from .ranges import Feeds, open_session

IMAGES = 16  # more hardly change what is found
_LARGEST = 2304  # inputs of an output, beyond which a layer's moments take too much memory; its weights round plainly
_DAMPING = 0.01  # of the mean of the diagonal, added to it: directions that the images hardly show stay as they are
_PATCHES = 4096  # of an image and layer, at most, evenly spread

Floats = npt.NDArray[np.float64]


def input_moments(
    model: onnx.ModelProto, layers: Sequence[QuantizableLayer], feeds: Sequence[Feeds], tick: Callable[[], None]
) -> dict[str, Floats]:
    """Second moments of what each output of a layer is summed over: node name -> (groups, N, N).

    N is I / groups * h * w of a convolution (O, I / groups, h, w), the rows of a matrix (N, O) of a product. Layers
    with a large N are left out. `tick` is called after each of `feeds`.
    """
    nodes = {node.name: node for node in model.graph.node}
    weights = weight_values(model, layers)
    layers = [layer for layer in layers if _inputs(weights[layer.weight].shape, layer.axis) <= _LARGEST]
    sources = list(dict.fromkeys(layer.source for layer in layers))
    session = open_session(model, sources)
    moments: dict[str, Floats] = {}
    for feed in feeds:
        values = dict(zip(sources, session.run(sources, dict(feed)), strict=True))
        for layer in layers:
            rows = _rows(nodes[layer.node], values[layer.source], weights[layer.weight].shape)
            found = rows.transpose(0, 2, 1) @ rows
            moments[layer.node] = moments[layer.node] + found if layer.node in moments else found
        tick()
    return moments


def _inputs(shape: Sequence[int], axis: int) -> int:
    """N: how many products are summed for an output."""
    return int(np.prod(shape)) // shape[axis]


def round_weights(
    value: npt.NDArray[np.float32], scale: npt.NDArray[np.float32], axis: int, limit: int, moments: Floats
) -> npt.NDArray[np.int8]:
    """The INT8 weight for `scale` (one per output channel, along `axis`) that keeps the outputs nearest.

    `moments` (groups, N, N) are those of `input_moments`. Where they are not finite, each weight is rounded by itself.
    """
    if not np.isfinite(moments).all():
        return round_plainly(value, scale, axis, limit)
    moved = np.moveaxis(value, axis, 0).astype(np.float64)
    rows = moved.reshape(len(moved), -1)  # (O, N)
    per_group = len(rows) // len(moments)
    rounded = np.concatenate(
        [
            _round_rows(
                rows[index * per_group : (index + 1) * per_group],
                scale[index * per_group : (index + 1) * per_group].astype(np.float64),
                limit,
                moment,
            )
            for index, moment in enumerate(moments)
        ]
    )
    result: npt.NDArray[np.int8] = np.moveaxis(rounded.reshape(moved.shape), 0, axis)
    return result


def round_plainly(
    value: npt.NDArray[np.float32], scale: npt.NDArray[np.float32], axis: int, limit: int
) -> npt.NDArray[np.int8]:
    """Each weight to the nearest INT8 value for `scale` (one per output channel, along `axis`)."""
    shape = [-1 if place == axis else 1 for place in range(value.ndim)]
    rounded: npt.NDArray[np.int8] = np.clip(np.rint(value / scale.reshape(shape)), -limit, limit).astype(np.int8)
    return rounded


def _round_rows(rows: Floats, scale: Floats, limit: int, moment: Floats) -> npt.NDArray[np.int8]:
    """One weight of all rows after the other; what it is off is spread over those that are still to come."""
    count = rows.shape[1]
    damped = moment + np.eye(count) * max(_DAMPING * float(np.trace(moment)) / count, 1e-12)
    # Upper Cholesky factor of the inverse: row i says how the error of weight i is spread over the later ones.
    spread = np.linalg.cholesky(np.linalg.inv(damped)).T
    left = rows.copy()
    result = np.zeros(rows.shape, np.int8)
    for index in range(count):
        small = np.clip(np.rint(left[:, index] / scale), -limit, limit)
        result[:, index] = small
        error = (left[:, index] - small * scale) / spread[index, index]
        left[:, index:] -= error[:, None] * spread[index, index:]
    return result


def _rows(node: NodeProto, source: npt.NDArray[np.float32], shape: Sequence[int]) -> Floats:
    """What each output is summed over, (groups, patches, N), a sample of the places."""
    if node.op_type == "MatMul":
        found = source.reshape(1, -1, shape[0])
        return _some(found)
    settings: Mapping[str, Any] = attributes(node)
    group, (high, wide) = settings.get("group", 1), shape[2:]
    top, left, bottom, right = settings.get("pads", [0, 0, 0, 0])
    down, across = settings.get("strides", [1, 1])
    padded = np.pad(source[0], ((0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (high, wide), (1, 2))[:, ::down, ::across]
    height, width = windows.shape[1:3]
    step = max(1, int(np.ceil(np.sqrt(height * width / _PATCHES))))
    windows = windows[:, ::step, ::step]  # (I, rows, columns, h, w)
    parts = windows.reshape(group, -1, *windows.shape[1:])
    return parts.transpose(0, 2, 3, 1, 4, 5).reshape(group, -1, shape[1] * high * wide).astype(np.float64)


def _some(rows: npt.NDArray[np.float32]) -> Floats:
    step = max(1, rows.shape[1] // _PATCHES)
    return rows[:, ::step].astype(np.float64)
