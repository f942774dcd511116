"""A graph while its nodes are replaced by others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper, shape_inference

from .layers import readers

RUNTIME = "com.microsoft"  # domain of ONNX Runtime's own operators


class Graph:
    """The graph with what a rewrite asks of it; nodes are dropped and added, then `settle` puts them in order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        if all(entry.domain != RUNTIME for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid(RUNTIME, 1))
        self.values = {tensor.name: tensor for tensor in self.graph.initializer}
        self.outputs = {value.name for value in self.graph.output}
        self.shapes = _shapes(model)
        self._dropped: set[str] = set()
        self._added: list[NodeProto] = []
        self.settle()

    def settle(self) -> None:
        """Take out what was dropped, put in what was added, in an order that can be run."""
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
        """A constant, if it is one."""
        return numpy_helper.to_array(self.values[name]) if name in self.values else None

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        """Add one, under a name that has to be new."""
        assert name not in self.values
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        self.values[name] = self.graph.initializer[-1]
        return name

    def only_reader(self, name: str) -> NodeProto | None:
        """The node that alone reads a tensor."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def replace(self, old: Iterable[NodeProto], new: Iterable[NodeProto]) -> None:
        """From the next `settle` on."""
        self._dropped.update(node.name for node in old)
        self._added += new


def attributes(node: NodeProto) -> dict[str, Any]:
    """What is set of a node's attributes, by name; text is bytes."""
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def keep_needed(graph: onnx.GraphProto, nodes: Sequence[NodeProto]) -> None:
    """Let the graph have those of `nodes`, in their order, that an output depends on."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Sizes by tensor, 0 where one is not known."""
    found = shape_inference.infer_shapes(model).graph
    return {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*found.value_info, *found.input, *found.output)
    }
