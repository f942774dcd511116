"""Replaces the GridSamples of each deformable attention layer by TensorRT's own plugin.

`MultiscaleDeformableAttnPlugin_TRT` of libnvinfer_plugin (version 1 up to TensorRT 10.10, also version 2 since; not in
TensorRT-RTX) never writes the sampled features to memory. Written against its source; untested on a GPU.

    value (N, S, M, D), spatial_shapes (L, 2) int32 height and width, level_start_index (L,) int32,
    sampling_locations (N, Lq, M, L, P, 2) x and y in 0..1, attention_weights (N, Lq, M, L, P) -> (N, Lq, M, D)

with M heads of D channels, S tokens on L levels, Lq queries that look at P points of each level. N is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from ...bundle.errors import PlanError
from ...runtime.engines.tensorrt_api import MSDA_PLUGIN
from ..graph.constant_folding import module_of
from ..graph.gather_sampling import check_sampling
from ..graph.layers import readers
from ..graph.rewriting import keep_used_nodes


@dataclass(frozen=True)
class _Level:
    """One level of one layer, as the graph has it: GridSample, times the weights, summed over the points."""

    maps: str  # (M, D, H, W)
    grid: str  # (M, P, Lq, 2), x and y in -1..1
    weights: str  # (M, 1, P, Lq)
    mixed: str  # (1, M, D, Lq)


def replace_with_plugin(model: onnx.ModelProto, version: str) -> onnx.ModelProto:
    """A copy of `model` without GridSample, for a TensorRT whose plugin has this version.

    ONNX Runtime does not know the node, nor does onnx. Raises `PlanError` for a sampling that is not this model's kind.
    """
    typed = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    values = {value.name: value.type.tensor_type for value in (*typed.graph.value_info, *typed.graph.input)}
    users = readers(list(model.graph.node))
    attentions: dict[str, list[_Level]] = {}  # module -> its levels
    for node in model.graph.node:
        if node.op_type == "GridSample":
            attentions.setdefault(module_of(node), []).append(_level(node, users))
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for module, levels in attentions.items():
        _replace(result.graph, module, levels, users, values, version)
    return result


def _level(node: NodeProto, users: dict[str, list[NodeProto]]) -> _Level:
    check_sampling(node)
    product = _reader(node.output[0], "Mul", users, node)
    (weights,) = (name for name in product.input if name != node.output[0])
    total = _reader(product.output[0], "ReduceSum", users, node)
    return _Level(node.input[0], node.input[1], weights, _reader(total.output[0], "Reshape", users, node).output[0])


def _reader(name: str, kind: str, users: dict[str, list[NodeProto]], place: NodeProto) -> NodeProto:
    """The one node that reads a tensor, if it is of this kind."""
    found = users.get(name, [])
    if [node.op_type for node in found] != [kind]:
        kinds = ", ".join(node.op_type for node in found) or "nothing"
        raise PlanError(f"{place.name} is read by {kinds}, expected {kind}; build with --msda gridsample or gather")
    return found[0]


def _replace(
    graph: onnx.GraphProto,
    module: str,
    levels: list[_Level],
    users: dict[str, list[NodeProto]],
    values: dict[str, Any],
    version: str,
) -> None:
    """Put one plugin node where the last sum over `levels` is, and drop what nothing reads any more."""
    terms = [level.mixed for level in levels]
    while len(terms) > 1:  # in whatever order they are summed
        adding = [node for name in terms for node in users.get(name, []) if node.op_type == "Add"]
        sums = [node for node in adding if set(node.input) <= set(terms)]
        if not sums:
            raise PlanError(f"the levels of {module} are not simply summed; build with --msda gridsample or gather")
        terms = [*(name for name in terms if name not in sums[0].input), sums[0].output[0]]
    (end,) = terms
    for level in levels:
        for name in (level.maps, level.grid, level.weights):
            if len(_shape(values, name)) != 4 or min(_shape(values, name)) < 1:
                raise PlanError(f"{name} of {module} is no FP32 tensor of four fixed sizes; export the bundle again")
    heads, points, queries, _ = _shape(values, levels[0].grid)
    depth, count = _shape(values, levels[0].maps)[1], len(levels)
    sizes = np.array([_shape(values, level.maps)[2:] for level in levels], np.int32)
    areas = sizes.prod(1)
    nodes: list[NodeProto] = []

    def constant(value: Any, kind: type[Any]) -> str:
        name = f"{module}/plugin_constant_{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def op(kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = f"{module}/plugin_{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [output or name], name, **attributes))
        return output or name

    def shaped(name: str, *shape: int) -> str:
        return op("Reshape", name, constant(shape, np.int64))

    maps = [shaped(level.maps, heads, depth, int(area)) for level, area in zip(levels, areas, strict=True)]
    value = op("Transpose", op("Concat", *maps, axis=2), perm=[2, 0, 1])
    grids = [shaped(level.grid, 1, heads, points, queries, 2) for level in levels]
    places = op("Transpose", op("Concat", *grids, axis=0), perm=[3, 1, 0, 2, 4])
    half = constant(0.5, np.float32)
    places = op("Add", op("Mul", places, half), half)
    weights = op("Transpose", op("Concat", *(level.weights for level in levels), axis=1), perm=[3, 0, 1, 2])
    inputs = (
        shaped(value, 1, int(areas.sum()), heads, depth),
        constant(sizes, np.int32),
        constant(np.cumsum(areas) - areas, np.int32),
        shaped(places, 1, queries, heads, count, points, 2),
        shaped(weights, 1, queries, heads, count, points),
    )
    sampled = op(MSDA_PLUGIN, *inputs, plugin_version=version, plugin_namespace="")
    op("Transpose", sampled, output=end, perm=[0, 2, 3, 1])
    kept = list(graph.node)
    at = next(index for index, node in enumerate(kept) if end in node.output)
    keep_used_nodes(graph, [*kept[:at], *nodes, *kept[at + 1 :]])


def _shape(values: dict[str, Any], name: str) -> list[int]:
    """Sizes of an FP32 tensor, 0 for a free one; nothing for any other tensor."""
    kind = values.get(name)
    return [axis.dim_value for axis in kind.shape.dim] if kind and kind.elem_type == TensorProto.FLOAT else []
