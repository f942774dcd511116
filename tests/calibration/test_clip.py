"""A plain CLIP in FP16 and INT8: what stays FP32, which layers form a group, and that TensorRT-RTX builds the plan."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from support import exported
from support.clip import reference_case, reference_clip, small_clip
from support.reference import needs_reference

from ovs_edge.calibration.graph.constant_folding import fold_constants, module_of
from ovs_edge.calibration.graph.layers import find_layers
from ovs_edge.calibration.quantize.fp16 import convert_to_fp16, emulate_fp16, fp16_tensors, fp32_nodes
from ovs_edge.calibration.quantize.ranges import all_finite
from ovs_edge.calibration.tensorrt.builder import BuildRequest, build
from ovs_edge.calibration.tensorrt.network import stated_types
from ovs_edge.export.clip.export import clip_onnx
from ovs_edge.export.clip.options import ClipExportRequest
from ovs_edge.export.onnx_writer import save
from ovs_edge.export.parity_photos import photo_inputs
from ovs_edge.runtime.engines.plan import Profile
from ovs_edge.segmenter.clip_dense.config import DenseRecipe, ScoreRefinement

SIZE = (240, 256)


@functools.cache
def base(recipe: DenseRecipe, refinement: ScoreRefinement = ScoreRefinement.none) -> onnx.ModelProto:
    """The folded FP32 graph; shared, so change nothing."""
    path = exported.folder() / f"clip-{recipe.value}-{refinement.value}.onnx"
    model = small_clip(recipe=recipe, refinement=refinement)
    save(clip_onnx(model, ClipExportRequest(SIZE, recipe=recipe, refinement=refinement)), path)
    return fold_constants(path)


def feeds(photo: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
    return {"image": photo, "text_embeddings": exported.vectors(12, 2, 48)}


@pytest.mark.parametrize("recipe", list(DenseRecipe))
def test_fp16(recipe: DenseRecipe) -> None:
    """Labels of real photos are those of FP32, every number is finite, and what decides is computed in FP32."""
    half = convert_to_fp16(base(recipe))
    trial = emulate_fp16(half)
    full, rounded = exported.session(base(recipe)), exported.session(trial)
    for photo in photo_inputs(None, SIZE):
        expected, confidence = full.run(["labels", "confidence"], feeds(photo))
        labels, found = rounded.run(["labels", "confidence"], feeds(photo))
        assert (labels == expected).mean() >= 0.995
        assert np.abs(found - confidence).max() < 0.02
    assert all_finite(trial, fp16_tensors(trial), [feeds(photo_inputs(None, SIZE)[0])])
    wide = fp32_nodes(base(recipe).graph.node)
    for node in base(recipe).graph.node:
        module = module_of(node)
        if node.op_type in ("LayerNormalization", "Softmax", "TopK", "ArgMax") or module in ("scorer", "scorer.merge"):
            assert node.name in wide, node.name
        if node.op_type == "MatMul" and "mlp" in module:
            assert node.name not in wide


@needs_reference
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("recipe", "windows", "size", "least"),
    [
        (DenseRecipe.sc_clip, True, (336, 448), 0.995),
        (DenseRecipe.sc_clip, True, (448, 336), 0.995),
        (DenseRecipe.sc_clip, False, (336, 448), 0.995),
        (DenseRecipe.sc_clip, False, (448, 336), 0.97),  # in one photo another patch is taken for an outlier
        (DenseRecipe.sc_clip, False, (224, 224), 0.995),
        (DenseRecipe.naclip, True, (336, 448), 0.995),
    ],
)
def test_fp16_of_the_reference_weights(
    recipe: DenseRecipe, windows: bool, size: tuple[int, int], least: float, tmp_path: Path
) -> None:
    """ViT-B/16 with the weights and the vocabulary of the reference vectors, on real photos."""
    model = reference_clip(recipe=recipe, windows=windows)
    save(clip_onnx(model, ClipExportRequest(size, recipe=recipe, windows=windows)), tmp_path / "full.onnx")
    graph = fold_constants(tmp_path / "full.onnx")
    full, half = exported.session(graph), exported.session(emulate_fp16(convert_to_fp16(graph)))
    text = reference_case(recipe.value)["text_embeddings"].astype(np.float32)[:, None]
    seen, equal = set(), []
    for photo in photo_inputs(None, size):
        expected, found = (
            session.run(["labels"], {"image": photo, "text_embeddings": text})[0] for session in (full, half)
        )
        seen.update(np.unique(expected).tolist())
        equal.append(float((expected == found).mean()))
    print(f"{recipe.value}, windows {windows}, {size}: mean {np.mean(equal):.4%}, worst {min(equal):.4%}")
    assert len(seen) >= 3  # otherwise there is little that could differ
    assert np.mean(equal) >= least


def test_groups() -> None:
    layers = find_layers(base(DenseRecipe.sc_clip))
    groups = {group: [layer for layer in layers if layer.group == group] for group in {layer.group for layer in layers}}
    # Of the last block, what the recipe computes in FP32 is no candidate; its output projection is among the heads.
    assert set(groups) == {"vision.patches", "vision.qkv", "vision.out_projection", "vision.mlp", "heads"}
    assert len(groups["vision.mlp"]) == 22 and len(groups["vision.qkv"]) == 11
    assert all(layer.work > 0 for layer in layers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "refinement"),
    [
        (DenseRecipe.sc_clip, ScoreRefinement.none),
        (DenseRecipe.naclip, ScoreRefinement.guided),
        # 160 passes over all scores, unrolled: half a minute
        pytest.param(DenseRecipe.naclip, ScoreRefinement.pamr, marks=pytest.mark.nightly),
    ],
)
def test_tensorrt_rtx_builds_the_fp16_plan(recipe: DenseRecipe, refinement: ScoreRefinement, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    path = tmp_path / "fp16.onnx"
    onnx.save(convert_to_fp16(base(recipe, refinement)), str(path))
    request = BuildRequest(path, path.with_suffix(".engine"), "tensorrt_rtx", (Profile(512, 8),), 48, 0, None, None)
    built = build(request, lambda phase, done, of: True)  # refuses a layer of another type than the file's
    assert request.engine.stat().st_size == built.size > 2**19
    types = {
        kind: {layer.types[0] for layer in built.layers if layer.kind == kind} for kind in ("CONVOLUTION", "SOFTMAX")
    }
    assert types == {"CONVOLUTION": {"float16"}, "SOFTMAX": {"float32"}}
    assert {layer.types[0] for layer in built.layers if layer.kind == "NORMALIZATION"} == {"float32"}
    stated = {name for name, kind in stated_types(path).items() if kind == "float16"}
    assert len({name for layer in built.layers for name in layer.tensors} & stated) > 0.5 * len(stated)
