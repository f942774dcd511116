"""The reference vectors that may lie beside the checkout, and published files made from our own models."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ovs_edge.segmenter.config import (
    BackboneConfig,
    PixelDecoderConfig,
    QueryDecoderConfig,
    SegmenterConfig,
    TextConfig,
)
from ovs_edge.segmenter.layouts.mask2former import OURS_ALONE, Mask2FormerLayout
from ovs_edge.segmenter.layouts.registry import build_model, layout_of
from ovs_edge.segmenter.model import MaskModel

FOLDER = Path(__file__).parents[2].parent / "shared" / "reference"

# Largest absolute differences allowed, and the smallest share of equal labels.
MASK_BAR, CLASS_BAR, SEMANTIC_BAR, NAMES_BAR, LABELS_BAR = 5e-3, 2e-3, 1e-3, 1e-4, 0.999

needs_reference = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no reference vectors at {FOLDER}")


def reference_state(family: str) -> dict[str, np.ndarray[Any, Any]]:
    """The whole published R50 state dict of `family`, rebuilt."""
    state: dict[str, np.ndarray[Any, Any]] = _weights().checkpoint(FOLDER / f"{family}_r50_state.json")
    return state


def _weights() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_weights", FOLDER / "weights.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Case:
    """One image and vocabulary with what the published implementation makes of them."""

    arrays: dict[str, np.ndarray[Any, Any]]

    @classmethod
    def load(cls, family: str, index: int = 0) -> Case:
        """Case `index` of `family`'s R50."""
        with np.load(FOLDER / f"{family}_r50_case{index}.npz") as file:
            return cls({name: file[name] for name in file.files})

    @property
    def text_embeddings(self) -> Tensor:
        """(K, S, D), absent names as zero rows."""
        rows = torch.from_numpy(self.arrays["text_embeddings"])
        if "names_per_class" not in self.arrays:
            return rows[:, None]
        groups = rows.split(self.arrays["names_per_class"].tolist())  # type: ignore[no-untyped-call]
        return torch.nn.utils.rnn.pad_sequence(list(groups), batch_first=True)

    @property
    def seen_rows(self) -> Tensor:
        """(N, D): vectors of the names that stand in the training vocabulary."""
        trained = {name for entry in self.training_vocabulary for name in entry}
        rows = [index for index, name in enumerate(self.arrays["names"]) if str(name) in trained]
        return torch.from_numpy(self.arrays["text_embeddings"][rows])

    @property
    def training_vocabulary(self) -> list[list[str]]:
        """Each class that was trained with its names."""
        return [str(names).split(",") for names in self.arrays["train_classes"]]

    def image(self, model: MaskModel) -> Tensor:
        """RGB (1, 3, H, W), sides padded to multiples of 32 with what the model normalises to zero."""
        image = torch.from_numpy(self.arrays["image"]).permute(2, 0, 1)[None].float()
        height, width = image.shape[2:]
        return torch.nn.functional.pad(image - model.pixel_mean, (0, -width % 32, 0, -height % 32)) + model.pixel_mean

    def compare(self, mask_logits: Tensor, class_logits: Tensor, in_vocab_logits: Tensor | None = None) -> None:
        """Assert every bar, given the outputs (1, …) for `image`."""
        from ovs_edge.segmenter.model import semantic_scores

        known = self.arrays
        height, width = known["image"].shape[:2]
        masks = mask_logits[0, :, : known["mask_logits"].shape[1], : known["mask_logits"].shape[2]]
        assert _distance(masks, known["mask_logits"]) <= MASK_BAR
        if "class_logits" in known:
            assert _distance(class_logits[0], known["class_logits"]) <= CLASS_BAR
        if in_vocab_logits is not None:
            assert _distance(in_vocab_logits[0], known["in_vocab_logits"]) <= CLASS_BAR
        up = torch.nn.functional.interpolate(mask_logits, scale_factor=4, mode="bilinear", align_corners=False)
        scores = semantic_scores(class_logits, up)[0, :, :height, :width]
        assert _distance(scores[:, ::4, ::4], known["semantic_scores"]) <= SEMANTIC_BAR
        assert float((scores.argmax(0).numpy() == known["labels"]).mean()) >= LABELS_BAR


def _distance(found: Tensor, known: np.ndarray[Any, Any]) -> float:
    assert tuple(found.shape) == known.shape
    return float(np.abs(found.numpy() - known).max())


def small_config(family: str, backbone: str = "clip_resnet") -> SegmenterConfig:
    """A model of the published structure, small enough to build hundreds of times."""
    trunk = BackboneConfig("clip_resnet", (1, 1, 2, 1), 8, 3 if family == "fcclip" else 0)
    if backbone == "convnext":
        trunk = BackboneConfig("convnext", (1, 1, 2, 1), 8)
    clip = family == "fcclip"
    return SegmenterConfig(
        name=f"{family}_small",
        backbone=trunk,
        pixel_decoder=PixelDecoderConfig(
            channels=64, mask_channels=64, attention_levels=3, layers=2, heads=2, points=4, ffn=96, norm_groups=32
        ),
        query_decoder=QueryDecoderConfig(queries=7, layers=3, heads=2, ffn=96),
        text=TextConfig("clip", 48, 77, 2, 64, 1, 49408, quick_gelu=backbone != "convnext", templates=("a {}.",)),
        pixel_mean=(122.7709383, 116.7460125, 104.09373615) if clip else (123.675, 116.28, 103.53),
        pixel_std=(68.5005327, 66.6321579, 70.32316305) if clip else (58.395, 57.12, 57.375),
        family="fcclip" if clip else "gkc",
    )


def small_model(family: str, backbone: str = "clip_resnet") -> MaskModel:
    """`small_config` with weights at which some masks are empty, some not."""
    torch.manual_seed(3)
    model = build_model(small_config(family, backbone)).eval()
    with torch.no_grad():
        model.query_decoder.mask_embed.layers[-1].get_parameter("weight").mul_(10)
    return model


def decoder_layout(family: str) -> Mask2FormerLayout:
    """The layout of `family`, one with Mask2Former's decoders."""
    layout = layout_of(family)
    assert isinstance(layout, Mask2FormerLayout)
    return layout


def published_file(model: MaskModel, text: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """The state dict as the published file of `model` would hold it, with what inference does not need."""
    config, layout = model.config, decoder_layout(model.config.family)
    state = {
        layout.published_name(name, config): value.clone()
        for name, value in model.state_dict().items()
        if name not in OURS_ALONE
    }
    state |= {layout.text_prefix + name: value for name, value in (text or {}).items()}
    for part in layout.not_needed(config, {}):
        state |= {name: torch.ones(shape) for name, shape in part.items()}
    return state
