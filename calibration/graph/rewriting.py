"""Replaces nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper, shape_inference

from .layers import readers

RUNTIME = "com.microsoft"  # domain of ONNX Runtime's own operators


class EditableGraph:
    """A graph with look-ups for rewrites. `replace` collects changes; `apply` makes them and sorts the nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        if all(entry.domain != RUNTIME for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid(RUNTIME, 1))
        self.values = {tensor.name: tensor for tensor in self.graph.initializer}
        self.outputs = {value.name for value in self.graph.output}
        self.shapes = _shapes(model)
        self._dropped: set[str] = set()
        self._added: list[NodeProto] = []
        self.apply()

    def apply(self) -> None:
        """Remove and add the nodes of all `replace` calls, in topological order."""
        waiting = [node for node in self.graph.node if node.name not in self._dropped] + self._added
        known = {value.name for value in self.graph.input} | set(self.values) | {""}
        ordered: list[NodeProto] = []
        while waiting:
            ready = [node for node in waiting if known.issuperset(node.input)]
            assert ready, "a rewrite left a node without its input"
            taken = {id(node) for node in ready}
            waiting = [node for node in waiting if id(node) not in taken]
            ordered += ready
            known.update(name for node in ready for name in node.output)
        del self.graph.node[:]
        self.graph.node.extend(ordered)
        self._dropped, self._added = set(), []
        self.nodes = list(self.graph.node)
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.readers = readers(self.nodes)

    def value(self, name: str) -> npt.NDArray[Any] | None:
        """The value of a constant, None for another tensor."""
        return numpy_helper.to_array(self.values[name]) if name in self.values else None

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        """Add a constant under a new name; returns the name."""
        assert name not in self.values
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        self.values[name] = self.graph.initializer[-1]
        return name

    def only_reader(self, name: str) -> NodeProto | None:
        """The node that reads a tensor, if there is only one and the tensor is no output."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def replace(self, old: Iterable[NodeProto], new: Iterable[NodeProto]) -> None:
        """Replace nodes at the next `apply`."""
        self._dropped.update(node.name for node in old)
        self._added += new


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name; text is bytes."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def keep_used_nodes(graph: onnx.GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Set the graph's nodes to those of `nodes` that an output depends on, in their order."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Shapes by tensor, 0 for an unknown size."""
    found = shape_inference.infer_shapes(model).graph
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*found.value_info, *found.input, *found.output)
    }
