"""An ONNX file with further values as outputs, without the `onnx` package.

Protocol Buffers messages that follow each other are merged: repeated fields are appended. So a model whose graph holds
nothing but outputs, written behind the file, adds those outputs to the graph (protobuf.dev, "Encoding", section "Last
One Wins"). The weights are neither parsed nor copied more often than once.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...bundle.manifest import TensorSpec

_FLOAT = 1  # onnx.TensorProto.FLOAT
# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_OUTPUT = 7, 12
_VALUE_NAME, _VALUE_TYPE, _TYPE_TENSOR = 1, 2, 1
_TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE = 1, 2, 1, 1


def with_outputs(model: bytes, values: Iterable[TensorSpec]) -> bytes:
    """`model`, an ONNX file, with the float32 `values` of its graph as further outputs."""
    outputs = b"".join(_message(_GRAPH_OUTPUT, _value(value)) for value in values)
    return model + _message(_MODEL_GRAPH, outputs)


def _value(value: TensorSpec) -> bytes:
    shape = b"".join(_message(_SHAPE_DIM, _number(_DIM_VALUE, int(side))) for side in value.shape)
    tensor = _number(_TENSOR_ELEMENT, _FLOAT) + _message(_TENSOR_SHAPE, shape)
    return _message(_VALUE_NAME, value.name.encode()) + _message(_VALUE_TYPE, _message(_TYPE_TENSOR, tensor))


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*groups, value))
