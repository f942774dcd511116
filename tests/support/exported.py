"""Small models with lively outputs, and one of them exported, for the tests of export/."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from torch import nn

from ovs_edge.export.bundle_writer import export_segmenter
from ovs_edge.export.options import ExportOptions, ExportRequest, resolve
from ovs_edge.export.parity_photos import photo_inputs
from ovs_edge.export.text_encoder.graph import export_text
from ovs_edge.segmenter.checkpoint import load_checkpoint, save_checkpoint
from ovs_edge.segmenter.config import SegmenterConfig, preset
from ovs_edge.segmenter.model import SegmenterModel
from ovs_edge.segmenter.text.encoder import load_text_encoder

SIZE = (64, 96)  # height, width of the small exports
VOCABULARY = [["sky"], ["road", "street"], ["cat"], ["person", "pedestrian"], ["building"]]


def lively(config: SegmenterConfig, size: tuple[int, int] = SIZE) -> SegmenterModel:
    """A model of random weights that paints photos in many labels, as a trained one would.

    Batch norms take their statistics from real photos, queries keep apart, mask logits are spread over the sigmoid, and
    the classifier is sharp: untouched random weights give every pixel one label, on which any two models agree.
    Residual branches are weak, as training makes them: strong ones amplify rounding from block to block.
    """
    torch.manual_seed(0)
    model = SegmenterModel(config)
    photos = torch.from_numpy(np.concatenate(photo_inputs(None, size))[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                if name.endswith("bn3") and "layer" in name:
                    module.weight *= 0.3
        for layer in model.query_decoder.layers:  # queries stay themselves when they look at the same things
            for part in (layer.cross_attn.out_proj, layer.self_attn.out_proj, layer.linear2):
                part.weight *= 0.2
        mask_features, _ = model.train().features(photos)
        model.eval()
        # Centred features make masks that are positive here and negative there.
        bias = model.pixel_decoder.mask_features.bias
        assert bias is not None
        bias -= mask_features.mean((0, 2, 3))
        last = model.query_decoder.mask_embed.layers[-1]
        assert isinstance(last, nn.Linear)
        for _ in range(3):  # what a query attends to depends on its masks before
            masks = model.states(photos)[-1].mask_logits
            last.weight *= 4 / masks.std()
            last.bias *= 4 / masks.std()
        # Queries of one mind give every pixel the same class: take away what they have in common.
        for depth, state in enumerate(model.states(photos)):
            head = model.text_proj[depth]
            assert isinstance(head, nn.Linear)
            head.bias -= head(torch.relu(model.class_embed(state.embedding))).mean((0, 1))
        model.logit_scale.fill_(np.log(30.0))
    return model


def options(config: SegmenterConfig, **changes: Any) -> ExportOptions:
    """Options for a small export."""
    return resolve(config, ExportRequest(**{"size": SIZE, **changes}))


@functools.cache
def folder() -> Path:
    """A folder for this test session."""
    path = Path(tempfile.mkdtemp(prefix="ovs-export-tests-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def checkpoint() -> Path:
    """A lively `mini` as ovs-train would save it, in FP16."""
    path = folder() / "model.pt"
    provenance = {"recipe": "none", "data": "/home/someone/data"}
    save_checkpoint(path, lively(preset("mini")), VOCABULARY, provenance, half=True)
    return path


@functools.cache
def mini() -> SegmenterModel:
    """The model of `checkpoint`; shared, so change nothing."""
    model, _ = load_checkpoint(checkpoint())
    assert isinstance(model, SegmenterModel)
    return model


@functools.cache
def mini_onnx() -> onnx.ModelProto:
    """Its graph at `SIZE`; shared, so change nothing."""
    return export_segmenter(mini(), options(mini().config))


@functools.cache
def text_onnx() -> onnx.ModelProto:
    """The graph of its text encoder, FP32; shared, so change nothing."""
    return export_text(load_text_encoder(mini().config.text), "fp32")


@functools.cache
def mini_file() -> Path:
    """`mini_onnx` on disk."""
    path = folder() / "mini.onnx"
    onnx.save(mini_onnx(), str(path))
    return path


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    """ONNX Runtime on the CPU, two threads."""
    chosen = ort.SessionOptions()
    chosen.intra_op_num_threads = 2
    chosen.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), chosen, providers=["CPUExecutionProvider"])


def vectors(classes: int, names: int, dim: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Random text vectors (K, S, D)."""
    return np.random.default_rng(seed).standard_normal((classes, names, dim)).astype(np.float32)
