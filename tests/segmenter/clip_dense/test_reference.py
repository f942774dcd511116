"""The published implementations' own outputs for ViT-B/16, in torch.

They lie in a folder beside the checkout; where it is absent these tests are skipped, and the others cover the parts.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.clip import FEATURE_BAR, check_scores, reference_case, reference_clip
from support.reference import needs_reference

from ovs_edge.segmenter.clip_dense.config import DenseRecipe
from ovs_edge.segmenter.clip_dense.model import ClipDenseEncoder


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "kind"), [(DenseRecipe.naclip, "slide"), (DenseRecipe.naclip, "whole"), (DenseRecipe.sc_clip, "slide")]
)
def test_torch(recipe: DenseRecipe, kind: str) -> None:
    model, case = reference_clip(recipe=recipe, windows=kind == "slide"), reference_case(recipe.value)
    image = torch.from_numpy(case["resized"]).permute(2, 0, 1)[None].float()
    if kind == "slide":
        encoder = ClipDenseEncoder(model.vision, recipe, (224, 224))
        features = encoder(model.normalise(image[:, :, :224, :224]))[0]
        assert np.abs(features.numpy() - case["window_features"]).max() <= FEATURE_BAR
    check_scores(model(image, torch.from_numpy(case["text_embeddings"])), case, kind)
