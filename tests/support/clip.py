"""Small CLIPs with a vision transformer, as open_clip builds them, and the reference vectors of the large one."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor

from ovs_edge.segmenter.clip_dense.architecture import from_open_clip
from ovs_edge.segmenter.clip_dense.config import ClipDenseConfig, DenseRecipe
from ovs_edge.segmenter.clip_dense.model import ClipDense
from ovs_edge.segmenter.clip_dense.weights import ClipWeights
from ovs_edge.segmenter.text.clip_text import text_state

from .reference import FOLDER, _weights

SMALL: dict[str, Any] = {
    "embed_dim": 48,
    "vision_cfg": {"image_size": 112, "layers": 12, "width": 128, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}

# Largest absolute differences allowed, and the smallest share of equal labels.
FEATURE_BAR, LOGIT_BAR, PROBABILITY_BAR, LABELS_BAR = 2e-3, 2e-4, 1e-3, 0.999


def open_clip_model(quick: bool = True, layers: int = 12) -> Any:
    """A small CLIP of open_clip with random weights, in eval mode. SC-CLIP needs 12 blocks."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = open_clip.CLIP(
            SMALL["embed_dim"],
            open_clip.CLIPVisionCfg(**{**SMALL["vision_cfg"], "layers": layers}),
            open_clip.CLIPTextCfg(**SMALL["text_cfg"]),
            quick_gelu=quick,
        )
    return model.eval()


@functools.cache
def small_weights(quick: bool = True, layers: int = 12) -> ClipWeights:
    """Its weights as `read_clip` gives them; shared, so change nothing."""
    state: dict[str, Tensor] = open_clip_model(quick, layers).state_dict()
    vision, text = from_open_clip({**SMALL, "vision_cfg": {**SMALL["vision_cfg"], "layers": layers}}, quick=quick)
    seen = {name.removeprefix("visual."): value for name, value in state.items() if name.startswith("visual.")}
    return ClipWeights("small", vision, text, seen, text_state(state), "small", None)


def small_clip(**options: Any) -> ClipDense:
    """A small dense CLIP, with as few blocks as its recipe allows; `options` are fields of `ClipDenseConfig`."""
    layers = 2 if options.get("recipe") is DenseRecipe.naclip else 12
    return small_weights(layers=layers).model(**options)


def reference_clip(**options: Any) -> ClipDense:
    """ViT-B/16 with the reference weights."""
    state = _weights().checkpoint(FOLDER / "clip_vit_b16_state.json")
    vision, text = from_open_clip(open_clip.get_model_config("ViT-B-16"), quick=True)
    model = ClipDense(ClipDenseConfig("ViT-B-16", vision, text, **options))
    model.vision.load_state_dict(
        {name[7:]: torch.from_numpy(value) for name, value in state.items() if name.startswith("visual.")}
    )
    return model.eval().requires_grad_(False)


def reference_case(recipe: str, index: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """One image and vocabulary with what the published implementation makes of them."""
    with np.load(FOLDER / f"{recipe.replace('-', '')}_vit_b16_case{index}.npz") as file:
        return {name: file[name] for name in file.files}


def check_scores(cosines: Tensor, case: dict[str, np.ndarray[Any, Any]], kind: str) -> None:
    """Assert every bar, given cosines (H, W, N) of `case["resized"]`; `kind` is slide or whole."""
    maps = cosines.permute(2, 0, 1)
    assert np.abs(maps[:, ::4, ::4].numpy() - case[f"{kind}_logits"]).max() <= LOGIT_BAR
    size = case["image"].shape[:2]
    full = torch.nn.functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    names = (40 * full).softmax(0).split(case["names_per_class"].tolist())  # type: ignore[no-untyped-call]
    classes = torch.stack([group.amax(0) for group in names])
    assert np.abs(classes[:, ::4, ::4].numpy() - case[f"{kind}_probabilities"]).max() <= PROBABILITY_BAR
    assert (classes.argmax(0).numpy() == case[f"{kind}_labels"]).mean() >= LABELS_BAR
