"""Exports a torch module to ONNX: no output, no paths of this machine in the file, nodes named after torch modules."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from ..bundle.errors import ParityError
from ..segmenter.quiet import no_logs_or_warnings

# From opset 20 on GridSample's mode has another name, which several parsers silently take for "nearest".
OPSET = 18

_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True)
class Port:
    """One input or output of a graph."""

    name: str
    free: tuple[tuple[int, str], ...] = ()  # dynamic axes with their symbols: ((0, "K"), (1, "S"))


def to_onnx(
    module: nn.Module, example: tuple[Tensor, ...], inputs: Sequence[Port], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Export `module` for inputs shaped like `example`, except for their free axes.

    Batch norms are not folded into convolutions: engines do so when they load the file, and the file keeps the
    checkpoint's own weights. Raises `ParityError` if the exporter did not keep what later stages rely on.
    """
    dynamic = torch.export.Dim.DYNAMIC
    shapes = [{axis: dynamic for axis, _ in port.free} or None for port in inputs]
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=[port.name for port in inputs],
            output_names=list(outputs),
            dynamic_shapes=tuple(shapes),
            optimize=False,
            verbose=False,
        )
        assert program is not None
        model = _simplified(program)
    _transpose_weights(model.graph)
    _resize_channels_last(model.graph)
    _name_axes(model, inputs)
    _name_nodes(model)
    _forget_origin(model)
    lint(model, layer_norms=_layer_norm_calls(module, example))
    return model


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write the file; a full disk raises `OSError`."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def lint(model: onnx.ModelProto, layer_norms: int) -> None:
    """Raise `ParityError` unless every layer norm is one node and every GridSample interpolates."""
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    mode = "linear" if opset >= 20 else "bilinear"
    found = Counter(node.op_type for node in model.graph.node)["LayerNormalization"]
    if found != layer_norms:
        raise ParityError(
            f"the exporter wrote {found} of {layer_norms} layer norms as one node; engines lose precision in the "
            "others. Use another torch version"
        )
    for node in model.graph.node:
        if node.op_type != "GridSample":
            continue
        modes = [attribute.s.decode() for attribute in node.attribute if attribute.name == "mode"]
        if modes not in ([mode], [] if opset < 20 else [mode]):
            raise ParityError(f"{node.name} samples by {modes}, expected {mode!r}; use another torch version")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings, logs and prints of the exporter; what matters raises."""
    with no_logs_or_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _simplified(program: Any) -> onnx.ModelProto:
    """The graph with constants folded, unused and repeated nodes removed; weights stay as they are."""
    import onnx_ir.passes.common as passes
    from onnxscript import optimizer

    model = program.model
    passes.InlinePass()(model)
    for _ in range(2):
        optimizer.fold_constants(
            model,
            onnx_shape_inference=False,
            input_size_limit=1024,
            output_size_limit=4096,
            # A folded weight would lose its name.
            should_fold=lambda node: False if node.op_type == "Transpose" else None,
        )
        passes.RemoveUnusedNodesPass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.DeduplicateInitializersPass()(model)
    passes.CommonSubexpressionEliminationPass()(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.RemoveUnusedOpsetsPass()(model)
    proto = program.model_proto
    assert isinstance(proto, onnx.ModelProto)
    return proto


def _transpose_weights(graph: onnx.GraphProto) -> None:
    """Store the matrices of linear layers as MatMul reads them, as `layer.weight.T`."""
    weights = {entry.name: entry for entry in graph.initializer}
    turned: dict[str, str] = {}  # what a Transpose gave -> initializer
    for node in graph.node:
        if _order(node) == [1, 0] and node.input[0] in weights:
            turned[node.output[0]] = f"{node.input[0]}.T"
    if not turned:
        return
    for name in dict.fromkeys(turned.values()):
        value = numpy_helper.to_array(weights[name.removesuffix(".T")])
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value.T), name))
    nodes = [node for node in graph.node if node.output[0] not in turned]
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = turned.get(name, name)
    read = {name for node in nodes for name in node.input}
    kept = [entry for entry in graph.initializer if entry.name in read]
    values = [entry for entry in graph.value_info if entry.name not in turned]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    graph.value_info.extend(values)


def _resize_channels_last(graph: onnx.GraphProto) -> None:
    """Resize maps (B, h, w, C) without the two Transposes that torch, which resizes (B, C, h, w) only, puts around.

    Engines do not remove them: ONNX Runtime moves Transposes through the graph instead.
    """
    makers = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.value_info}
    dropped: set[str] = set()  # outputs of nodes that go
    for node in [entry for entry in graph.node if entry.op_type == "Resize"]:
        before, after = makers.get(node.input[0]), users.get(node.output[0], [])
        if before is None or _order(before) != [0, 3, 1, 2] or len(after) != 1 or _order(after[0]) != [0, 2, 3, 1]:
            continue
        source, result = before.input[0], after[0].output[0]
        scale = [new / old if old else 1.0 for old, new in zip(shapes[source], shapes[result], strict=True)]
        name = f"{node.output[0]}.scales"
        graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), name))
        dropped.update((node.input[0], result))
        del node.input[:], node.output[:]
        node.input.extend((source, "", name))
        node.output.append(result)
    kept = [node for node in graph.node if node.op_type == "Resize" or not dropped & set(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    _drop_unread(graph)


def _order(node: onnx.NodeProto) -> list[int]:
    """Order of the axes that a Transpose gives; of any other node nothing."""
    if node.op_type != "Transpose":
        return []
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == "perm"), [])


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes whose outputs are not read."""
    read = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if read & set(node.output):
            kept.append(node)
            read.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _name_axes(model: onnx.ModelProto, inputs: Sequence[Port]) -> None:
    """Rename torch's symbols (s94, s16) of free axes to K and S everywhere."""
    names: dict[str, str] = {}
    for value, port in zip(model.graph.input, inputs, strict=True):
        for axis, symbol in port.free:
            dim = value.type.tensor_type.shape.dim[axis]
            if not dim.dim_param:
                raise ParityError(f"the exporter fixed {port.name}'s axis {axis} ({symbol}) to {dim.dim_value}")
            names[dim.dim_param] = symbol
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, names)) + r")\b") if names else None
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if pattern is not None and dim.dim_param:
                dim.dim_param = pattern.sub(lambda match: names[match.group()], dim.dim_param)


def _name_nodes(model: onnx.ModelProto) -> None:
    """Name each node after its torch module and operator: `backbone.stages.2.1.depthwise.0/Conv`."""
    count: Counter[str] = Counter()
    for node in model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        # The exporter marks scopes that are not modules by a leading underscore.
        modules = [scope for scope in ast.literal_eval(scopes)[:-1] if scope and not scope.startswith("_")]
        name = f"{modules[-1] if modules else ''}/{node.op_type}"
        count[name] += 1
        node.name = name if count[name] == 1 else f"{name}_{count[name]}"


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove stack traces and doc strings: they hold paths of the exporting machine."""
    graph = model.graph
    for entry in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""


def _layer_norm_calls(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    """Number of layer norms that one run computes."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hooks = [part.register_forward_hook(count) for part in module.modules() if isinstance(part, nn.LayerNorm)]
    try:
        with torch.no_grad():
            module(*example)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
