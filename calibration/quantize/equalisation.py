"""Equalises the channels of linear tensors before quantisation: small channels then use all of the eight bits.

A convolution without activation, the sums it is part of and the convolutions that read them are linear, so a factor
per channel can move from one side to the other: weights that write the channel are divided by it, weights that read it
are multiplied (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019). All
tensors of a residual chain share their factors. The graph computes the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, numpy_helper

from ..graph.layers import readers
from ..graph.rewriting import attributes
from .ranges import Feeds, open_session

_SHARE = 0.999  # of a channel's values that lie inside its range
_LEAST = 1 / 32  # smallest factor: channels that are nearly empty stay small


@dataclass(frozen=True)
class LinearChain:
    """Tensors (1, C, H, W) that share a factor per channel."""

    tensors: tuple[str, ...]
    writers: tuple[NodeProto, ...]  # convolutions that write one of them
    users: tuple[NodeProto, ...]  # convolutions that read one of them


def equalised(model: onnx.ModelProto, feeds: Sequence[Feeds], tick: Callable[[], None]) -> onnx.ModelProto:
    """A copy of `model` whose linear chains have channels of like range; `tick` is called after each of `feeds`."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    chains = linear_chains(result)
    names = [name for chain in chains for name in chain.tensors]
    if not names:
        for _ in feeds:
            tick()
        return result
    session = open_session(result, names)
    most: dict[str, npt.NDArray[np.float64]] = {}
    for feed in feeds:
        for name, value in zip(names, session.run(names, dict(feed)), strict=True):
            found = np.quantile(np.abs(value[0].reshape(value.shape[1], -1)), _SHARE, axis=1)
            most[name] = np.maximum(most[name], found) if name in most else found
        tick()
    weights = {tensor.name: tensor for tensor in result.graph.initializer}
    for chain in chains:
        ranges = np.max([most[name] for name in chain.tensors], axis=0)
        if not np.isfinite(ranges).all() or ranges.max() <= 0:
            continue
        factor = _stepped(np.maximum(ranges / ranges.max(), _LEAST))
        for node in chain.writers:
            for name, shape in zip(node.input[1:], ((-1, 1, 1, 1), (-1,)), strict=False):
                _scale(weights[name], np.float32(1) / factor.reshape(shape))
        for node in chain.users:
            _scale(weights[node.input[1]], factor.reshape(1, -1, 1, 1))
    return result


def linear_chains(model: onnx.ModelProto) -> list[LinearChain]:
    """Chains of convolutions' outputs and their sums that only sums and plain convolutions read."""
    graph = model.graph
    users = readers(list(graph.node))
    makers = {name: node for node in graph.node for name in node.output}
    weights = [name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]]
    own = {tensor.name for tensor in graph.initializer if weights.count(tensor.name) == 1}
    outputs = {value.name for value in graph.output}

    def plain(node: NodeProto) -> bool:
        """A convolution whose weights are constants of its own."""
        return node.op_type == "Conv" and own.issuperset(node.input[1:])

    chains = []
    seen: set[str] = set()
    for node in graph.node:
        if not plain(node) or node.output[0] in seen:
            continue
        tensors, waiting, fits = {node.output[0]}, [node.output[0]], True
        while waiting:
            name = waiting.pop()
            maker = makers.get(name)
            around = [reader for reader in users.get(name, []) if reader.op_type == "Add"]
            if maker is not None and maker.op_type == "Add":
                around.append(maker)
            fits = fits and name not in outputs and maker is not None and (plain(maker) or maker.op_type == "Add")
            fits = fits and all(
                reader.op_type == "Add"
                or (plain(reader) and attributes(reader).get("group", 1) == 1 and list(reader.input).count(name) == 1)
                for reader in users.get(name, [])
            )
            for add in around:
                for other in (*add.input, *add.output):
                    if other not in tensors:
                        tensors.add(other)
                        waiting.append(other)
        seen |= tensors
        around = [one for name in sorted(tensors) for one in users.get(name, []) if one.op_type == "Conv"]
        reading = list({one.name: one for one in around}.values())
        if fits and reading:
            writing = [makers[name] for name in sorted(tensors) if makers[name].op_type == "Conv"]
            chains.append(LinearChain(tuple(sorted(tensors)), tuple(writing), tuple(reading)))
    return chains


def _stepped(factor: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Factors in steps of a quarter of an octave, so that the last bit of a range changes no weight."""
    return np.exp2(np.round(np.log2(factor) * 4) / 4).astype(np.float32)


def _scale(tensor: onnx.TensorProto, factor: npt.NDArray[np.floating]) -> None:
    value = numpy_helper.to_array(tensor) * factor
    tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
