"""Quantises layers to INT8 by QuantizeLinear and DequantizeLinear nodes (Q/DQ).

Two schemes, since an engine fuses only patterns of its own. TensorRT wants symmetric activations at the inputs of a
layer and none around its bias. ONNX Runtime on a CPU wants the whole chain, outputs and biases too, and zero points,
so that no half of the range is lost on values that a ReLU never gives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

from ...bundle.processor import Processor
from ..graph.layers import QuantizableLayer, readers, weight_values
from ..graph.rewriting import keep_used_nodes
from .cpu_rewrites import rewrite_quantised
from .ranges import Statistics
from .weight_rounding import round_plainly, round_weights

Int8 = npt.NDArray[np.int8]

_SHARES = np.linspace(1.0, 0.6, 17)  # of the largest weight: where larger ones may be clipped
_BIAS_LIMIT = 2.0**30  # so that a 32-bit accumulator does not overflow


@dataclass(frozen=True)
class Scheme:
    """The INT8 form that an engine fuses."""

    activation: type[np.uint8 | np.int8]
    weight_limit: int  # weights are -limit..limit, one scale per output channel
    symmetric: bool  # activations have zero point 0
    whole: bool  # outputs and biases are quantised, too, and the sums and pools between layers
    half_scales: bool  # scales are exact in FP16, since the rest of the graph becomes FP16


# 64, not 127: without VNNI, x86 adds pairs of products in 16 bits, where 255 * 127 * 2 does not fit.
CPU: dict[Processor, Scheme] = {
    "x86": Scheme(np.uint8, 64, symmetric=False, whole=True, half_scales=False),
    "vnni": Scheme(np.uint8, 127, symmetric=False, whole=True, half_scales=False),
    "arm": Scheme(np.int8, 127, symmetric=False, whole=True, half_scales=False),
}
TENSORRT = Scheme(np.int8, 127, symmetric=True, whole=False, half_scales=True)


@dataclass(frozen=True)
class IntegerChain:
    """Nodes between quantised layers that can stay in INT8."""

    activation: dict[str, NodeProto]  # output of a layer or sum -> the ReLU or Clip that alone reads it
    carriers: tuple[NodeProto, ...]  # sums of two activations, and max pools


@dataclass(frozen=True)
class CameraInput:
    """The normalisation of the camera's bytes, (x - zero) * scale, if it is the same for all colours."""

    image: str  # uint8 (1, H, W, 3)
    normalised: str  # (1, 3, H, W)
    scale: np.float32
    zero: int


def find_camera_input(model: onnx.ModelProto) -> CameraInput | None:
    """Find it in the folded graph; None where colours are normalised differently, or a mean is no byte."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    users = readers(list(model.graph.node))
    name = model.graph.input[0].name
    found: list[np.float32] = []
    for operator in ("Cast", "Transpose", "Sub", "Div"):
        after = users.get(name, [])
        if len(after) != 1 or after[0].op_type != operator:
            return None
        if operator in ("Sub", "Div"):
            values = np.unique(constants.get(after[0].input[1], np.zeros(0)))
            if len(values) != 1:
                return None
            found.append(values[0])
        name = after[0].output[0]
    mean, deviation = found
    if mean != np.rint(mean) or not 0 <= mean <= 255 or deviation <= 0:
        return None
    return CameraInput(model.graph.input[0].name, name, np.float32(1) / np.float32(deviation), int(mean))


def find_integer_chain(model: onnx.ModelProto) -> IntegerChain:
    """Find them in the folded graph."""
    nodes = list(model.graph.node)
    constants = {tensor.name for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    activation = {
        name: users[0]
        for name, users in readers(nodes).items()
        if len(users) == 1
        and users[0].op_type in ("Relu", "Clip")
        and users[0].input[0] == name
        and not {name, users[0].output[0]} & outputs
    }
    carriers = tuple(
        node
        for node in nodes
        if node.op_type == "MaxPool" or (node.op_type == "Add" and not any(name in constants for name in node.input))
    )
    return IntegerChain(activation, carriers)


def observed_tensors(model: onnx.ModelProto, layers: Sequence[QuantizableLayer]) -> list[str]:
    """Every tensor that some choice of layers quantises."""
    parts = find_integer_chain(model)
    names = []
    for layer in layers:
        names += [layer.source, _end(parts, layer.target)]
    names += [_end(parts, node.output[0]) for node in parts.carriers]
    return list(dict.fromkeys(names))


def convolution_inputs(model: onnx.ModelProto, layers: Sequence[QuantizableLayer]) -> list[str]:
    """Inputs of the convolutions among `layers`."""
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    return list(dict.fromkeys(layer.source for layer in layers if layer.node in convolutions))


def quantize_layers(
    model: onnx.ModelProto,
    layers: Sequence[QuantizableLayer],
    statistics: Statistics,
    scheme: Scheme,
    weights: Mapping[str, Int8] | None = None,
) -> onnx.ModelProto:
    """A copy of `model` in which `layers` compute in INT8; `statistics` has every tensor of `observed_tensors`.

    `weights` are those of `rounded_weights`; without them each weight is rounded to the nearest value. Rounding a
    weight shifts the mean of the output; a convolution's bias corrects that (Nagel et al., "Data-Free Quantization
    Through Weight Equalization and Bias Correction", ICCV 2019, here with measured means).
    """
    return _Writer(model, layers, statistics, scheme, weights or {}).write()


def rounded_weights(
    model: onnx.ModelProto,
    layers: Sequence[QuantizableLayer],
    scheme: Scheme,
    moments: Mapping[str, npt.NDArray[np.float64]],
) -> dict[str, Int8]:
    """INT8 weights by node name that keep the outputs of `layers` nearest; `moments` are those of `input_moments`."""
    values = weight_values(model, layers)
    return {
        layer.node: round_weights(
            values[layer.weight],
            _weight_scale(values[layer.weight], layer.axis, scheme),
            layer.axis,
            scheme.weight_limit,
            moments[layer.node],
        )
        for layer in layers
        if layer.node in moments
    }


class _Writer:
    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Sequence[QuantizableLayer],
        statistics: Statistics,
        scheme: Scheme,
        rounded: Mapping[str, Int8],
    ) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._graph = self._model.graph
        self._layers = {layer.node: layer for layer in layers}
        self._ranges, self._means, self._scheme = dict(statistics.ranges), statistics.means, scheme
        self._rounded = rounded
        self._weights = {tensor.name: tensor for tensor in self._graph.initializer}
        self._outputs = {value.name for value in self._graph.output}
        self._chain = find_integer_chain(self._model)
        self._makers = {name: node for node in self._graph.node for name in node.output}
        self._dropped: set[str] = set()
        self._params: dict[str, tuple[np.float32, int]] = {}  # tensor -> scale, zero point
        self._camera = find_camera_input(self._model) if scheme.activation is np.uint8 else None
        if self._camera is not None:
            self._params[self._camera.normalised] = self._camera.scale, self._camera.zero

    def write(self) -> onnx.ModelProto:
        inside = self._inside()
        nodes = list(self._graph.node)
        result: list[NodeProto] = []
        renamed: dict[str, str] = {}  # tensor -> its dequantised twin, for every later reader
        twins: dict[str, str] = {}  # the same for chosen layers alone
        for node in nodes:
            if node.name in self._dropped:
                continue
            layer = self._layers.get(node.name)
            if layer is not None and layer.source not in inside and layer.source not in twins:
                result += self._pair(layer.source, twins)
            for place, name in enumerate(node.input):
                if name in renamed:
                    node.input[place] = renamed[name]
                elif layer is not None and place == 0 and name in twins:
                    node.input[place] = twins[name]
            if layer is not None:
                result += self._narrow(node, layer)
            result.append(node)
            if node.output[0] in inside:
                result += self._pair(node.output[0], renamed)
        del self._graph.node[:]
        self._graph.node.extend(result)
        if self._scheme.whole:
            rewrite_quantised(self._model)
        self._drop_unread()
        return self._model

    def _inside(self) -> set[str]:
        """Tensors that their producer writes as INT8. ReLUs before them are dropped: saturation replaces them."""
        if not self._scheme.whole:
            return set()
        inside: set[str] = set()
        carriers = {node.name for node in self._chain.carriers}
        for node in self._graph.node:
            layer = self._layers.get(node.name)
            carried = node.name in carriers and all(name in inside for name in node.input)
            target = node.output[0]
            written = carried or (layer is not None and node.op_type == "Conv")
            if not written or target in self._outputs:
                continue
            end = self._chain.activation.get(target)
            if end is not None and self._ranges[end.output[0]][0] >= 0:
                self._dropped.add(end.name)
                node.output[0] = target = end.output[0]
            if node.op_type == "MaxPool":
                self._ranges[target] = self._ranges[node.input[0]]  # one scale on both sides, or it cannot stay INT8
            inside.add(target)
        for layer in self._layers.values():
            inside.update(self._turned(layer.source, inside))
        return inside

    def _turned(self, source: str, inside: set[str]) -> list[str]:
        """A layer's source, and the tensors it is reshaped or transposed from, if that chain begins with INT8."""
        names: list[str] = []
        while source not in inside:
            maker = self._makers.get(source)
            if maker is None or maker.op_type not in ("Reshape", "Transpose"):
                return []
            names.append(source)
            source = maker.input[0]
        self._ranges.update(dict.fromkeys(names, self._ranges[source]))
        return names

    def _pair(self, name: str, twins: dict[str, str]) -> list[NodeProto]:
        scale, zero = self._activation(name)
        names = [f"{name}.{part}" for part in ("scale", "zero", "small", "near")]
        self._constant(names[0], np.array(scale, np.float32))
        self._constant(names[1], np.array(zero, self._scheme.activation))
        twins[name] = names[3]
        if self._camera is not None and name == self._camera.normalised:
            # The camera's own bytes in place of normalised values.
            small = helper.make_node(
                "Transpose", [self._camera.image], [names[2]], f"{name}/Transpose", perm=[0, 3, 1, 2]
            )
        else:
            small = helper.make_node("QuantizeLinear", [name, *names[:2]], [names[2]], f"{name}/QuantizeLinear")
        near = helper.make_node("DequantizeLinear", [names[2], *names[:2]], [names[3]], f"{name}/DequantizeLinear")
        return [small, near]

    def _activation(self, name: str) -> tuple[np.float32, int]:
        """Scale and zero point of a tensor."""
        if name not in self._params:
            low, high = min(self._ranges[name][0], 0.0), max(self._ranges[name][1], 0.0)
            kind = np.iinfo(self._scheme.activation)
            wide = max(-low, high) / kind.max if self._scheme.symmetric else (high - low) / (kind.max - kind.min)
            scale = np.float32(_stored(np.array(wide, np.float32), self._scheme))
            zero = 0 if self._scheme.symmetric else int(np.clip(np.rint(kind.min - low / scale), kind.min, kind.max))
            self._params[name] = scale, zero
        return self._params[name]

    def _narrow(self, node: NodeProto, layer: QuantizableLayer) -> list[NodeProto]:
        """Let the node read an INT8 weight and, where the scheme has it, an INT32 bias."""
        value = numpy_helper.to_array(self._weights[layer.weight])
        best = _weight_scale(value, layer.axis, self._scheme)
        scale = best
        bias = numpy_helper.to_array(self._weights[node.input[2]]) if len(node.input) > 2 else None
        step = self._activation(layer.source)[0]
        if bias is not None and self._scheme.whole:
            scale = np.maximum(scale, np.abs(bias) / (step * np.float32(_BIAS_LIMIT))).astype(np.float32)
        shape = [-1 if axis == layer.axis else 1 for axis in range(value.ndim)]
        small = round_plainly(value, scale, layer.axis, self._scheme.weight_limit)
        if (
            node.name in self._rounded
        ):  # where the bias needs another scale, for a channel that is nearly dead, it is off
            small = np.where((scale == best).reshape(shape), self._rounded[node.name], small)
        made = self._widened(node, 1, "weight", small, scale, layer.axis)
        if bias is None:
            return made
        near = bias - self._shift(small * scale.reshape(shape) - value, layer.source)
        if self._scheme.whole:
            exact = scale.astype(np.float64) * step
            return made + self._widened(node, 2, "bias", np.rint(near / exact).astype(np.int32), scale * step, 0)
        node.input[2] = f"{node.name}.bias"
        self._constant(node.input[2], near.astype(np.float32))
        return made

    def _shift(self, error: npt.NDArray[np.floating], source: str) -> npt.NDArray[np.float64]:
        """Mean output of a convolution with the weight `error` (O, I / groups, h, w), without borders."""
        inputs = np.array(self._means[source])
        out, depth = error.shape[:2]
        first = np.arange(out) // (out * depth // len(inputs)) * depth  # of each output's group of input channels
        kernel: npt.NDArray[np.float64] = error.astype(np.float64).sum((2, 3))
        shift: npt.NDArray[np.float64] = (kernel * inputs[first[:, None] + np.arange(depth)]).sum(1)
        return shift

    def _widened(
        self,
        node: NodeProto,
        place: int,
        role: str,
        small: npt.NDArray[np.integer],
        scale: npt.NDArray[np.float32],
        axis: int,
    ) -> list[NodeProto]:
        """Let the node read `small` times `scale`, a DequantizeLinear of its own."""
        own = f"{node.name}.{role}"
        names = [f"{own}.{part}" for part in ("small", "scale", "zero")]
        for name, value in zip(names, (small, scale, np.zeros(scale.shape, small.dtype)), strict=True):
            self._constant(name, value)
        node.input[place] = f"{own}.near"
        return [helper.make_node("DequantizeLinear", names, [f"{own}.near"], f"{own}/DequantizeLinear", axis=axis)]

    def _constant(self, name: str, value: npt.NDArray[np.generic]) -> None:
        self._graph.initializer.append(numpy_helper.from_array(value, name))

    def _drop_unread(self) -> None:
        keep_used_nodes(self._graph, list(self._graph.node))
        read = self._outputs.union(*(node.input for node in self._graph.node))
        kept = [tensor for tensor in self._graph.initializer if tensor.name in read]
        del self._graph.initializer[:], self._graph.value_info[:]
        self._graph.initializer.extend(kept)


def _stored(scale: npt.NDArray[np.float32], scheme: Scheme) -> npt.NDArray[np.float32]:
    """Scales as the file stores them; a tensor that is always zero gets scale 1."""
    if scheme.half_scales:
        scale = scale.astype(np.float16).astype(np.float32)
    return np.where(scale > 0, scale, np.float32(1))


def _weight_scale(value: npt.NDArray[np.float32], axis: int, scheme: Scheme) -> npt.NDArray[np.float32]:
    """The scale of each output channel with the least squared rounding error; larger weights may be clipped."""
    limit = scheme.weight_limit
    rows = np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1)
    most = np.abs(rows).max(1, keepdims=True) / limit
    best, least = most, np.full_like(most, np.inf)
    for share in _SHARES:
        scale = np.where(most > 0, most * np.float32(share), np.float32(1))
        error = np.square(np.clip(np.rint(rows / scale), -limit, limit) * scale - rows).sum(1, keepdims=True)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return _stored(best[:, 0].astype(np.float32), scheme)


def _end(parts: IntegerChain, name: str) -> str:
    return parts.activation[name].output[0] if name in parts.activation else name


def layers_of_groups(layers: Sequence[QuantizableLayer], groups: Collection[str]) -> list[QuantizableLayer]:
    """The layers of some groups."""
    return [layer for layer in layers if layer.group in groups]
