"""The tiny bundle with layers that can be quantised: pixels pass through two convolutions and a matrix, and come out again.

In FP32 the layers change nothing, so the answers stay known; in INT8 they do what INT8 does.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from support.tiny_bundle import build as build_tiny

from ovs_edge.bundle.bundle import MANIFEST, Bundle, sha256
from ovs_edge.bundle.manifest import SEGMENTER

_WIDE = 32
GROUPS = ("backbone.stages.0", "backbone.stages.1", "pixel_decoder.ffn")


def build(folder: Path) -> Path:
    """Write the bundle into `folder`; returns `folder`."""
    build_tiny(folder)
    model = onnx.load(folder / SEGMENTER)
    nodes = list(model.graph.node)
    rng = np.random.default_rng(0)
    out = rng.uniform(0.1, 1, (_WIDE, 3)).astype(np.float32)  # positive, as bytes are: the ReLU changes nothing
    mix = np.eye(_WIDE, dtype=np.float32) + rng.normal(0, 0.02, (_WIDE, _WIDE)).astype(np.float32)
    back = np.linalg.pinv((out.T @ mix).T).astype(np.float32)
    weights = {
        "out": out.reshape(_WIDE, 3, 1, 1),
        "out_bias": np.zeros(_WIDE, np.float32),
        "mix": mix,
        "back": back.reshape(3, _WIDE, 1, 1),
        "back_bias": np.zeros(3, np.float32),
    }

    def node(operator: str, inputs: list[str], output: str, module: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(operator, inputs, [output], f"{module}/{operator}", **attributes)

    layers = [
        node("Transpose", ["bgr"], "planes", "model.backbone", perm=[0, 3, 1, 2]),
        node("Conv", ["planes", "out", "out_bias"], "wide", "model.backbone.stages.0.0"),
        node("Relu", ["wide"], "positive", "model.backbone.stages.0.0"),
        node("Transpose", ["positive"], "tokens", "model.pixel_decoder", perm=[0, 2, 3, 1]),
        node("MatMul", ["tokens", "mix"], "mixed", "model.pixel_decoder.layers.0.linear1"),
        node("Transpose", ["mixed"], "maps", "model.backbone.stages.1", perm=[0, 3, 1, 2]),
        node("Conv", ["maps", "back", "back_bias"], "narrow", "model.backbone.stages.1.0"),
        node("Transpose", ["narrow"], "bgr_again", "model.pixel_decoder.layers", perm=[0, 2, 3, 1]),
    ]
    at = next(index for index, entry in enumerate(nodes) if "bgr" in entry.input)
    nodes[at].input[0] = "bgr_again"
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:at], *layers, *nodes[at:]])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(folder / SEGMENTER))
    manifest = Bundle.open(folder, verify=False).manifest
    manifest = dataclasses.replace(manifest, digests={**manifest.digests, SEGMENTER: sha256(folder / SEGMENTER)})
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder
