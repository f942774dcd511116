"""Folds constants and batch norms: the graph that every precision starts from.

An engine does the same when it loads a file, but in the types of the file. Done here, in FP32, a folded weight is
rounded once, and the quantiser sees the values that will be multiplied.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from ...bundle.errors import BundleError, require

# These rename nodes or fuse nodes of two modules; engines do both by themselves.
_DISABLED = ["MatMulAddFusion", "TransposeOptimizer"]
_STANDARD = ("", "ai.onnx")


def fold_constants(path: Path) -> onnx.ModelProto:
    """The graph at `path` after ONNX Runtime's basic optimisations; nodes keep the names of their torch modules.

    Raises `BundleError` for a graph that does not load.
    """
    ort = require("onnxruntime", "calibrate")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "graph.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 3
        try:
            ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_DISABLED)
        except Exception as error:  # the binding raises a dozen unrelated types
            raise BundleError(f"onnxruntime cannot load {path} ({error}); export the bundle again") from error
        model = onnx.load(str(target))
    used = {node.domain for node in model.graph.node}
    domains = [entry for entry in model.opset_import if entry.domain in used or entry.domain in _STANDARD]
    del model.opset_import[:]
    model.opset_import.extend(domains)
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"/{node.op_type}.{index}"  # later steps identify nodes by name
    return model


def module_of(node: onnx.NodeProto) -> str:
    """The torch module a node comes from: `backbone.stem.0` of `backbone.stem.0/Conv`."""
    return node.name.rpartition("/")[0]
