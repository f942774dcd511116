"""The published implementations' own outputs for ViT-B/16, in torch and from the exported graph.

They lie in a folder beside the checkout; where it is absent these tests are skipped, and the others cover the parts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from support.clip import FEATURE_BAR, check_scores, reference_case, reference_clip
from support.reference import needs_reference
from torch import Tensor, nn

from ovs_edge.export.onnx_writer import Port, save, to_onnx
from ovs_edge.segmenter.clip_dense.config import DenseRecipe
from ovs_edge.segmenter.clip_dense.model import ClipDense, ClipDenseEncoder, ClipDenseScorer

CASES = [(DenseRecipe.naclip, "slide"), (DenseRecipe.naclip, "whole"), (DenseRecipe.sc_clip, "slide")]


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "kind"), CASES)
def test_torch(recipe: DenseRecipe, kind: str) -> None:
    model, case = reference_clip(recipe=recipe, windows=kind == "slide"), reference_case(recipe.value)
    image = torch.from_numpy(case["resized"]).permute(2, 0, 1)[None].float()
    if kind == "slide":
        encoder = ClipDenseEncoder(model.vision, recipe, (224, 224))
        features = encoder(model.normalise(image[:, :, :224, :224]))[0]
        assert np.abs(features.numpy() - case["window_features"]).max() <= FEATURE_BAR
    check_scores(model(image, torch.from_numpy(case["text_embeddings"])), case, kind)


class _Outputs(nn.Module):
    """Cosines of the image, and the features of its first window."""

    def __init__(self, model: ClipDense, scorer: ClipDenseScorer) -> None:
        super().__init__()
        self.model, self.scorer = model, scorer

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """RGB (1, 3, H, W), unit text vectors (N, D) -> (H, W, N), (P, D)."""
        features: Tensor = self.scorer.encoder(self.scorer.windows.crop(self.model.normalise(image)))
        cosines: Tensor = self.scorer.merge(nn.functional.normalize(features, dim=-1) @ text.T)
        return cosines, features[0]


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "kind"),
    [*(pytest.param(*case, marks=pytest.mark.nightly) for case in CASES[:2]), CASES[2]],  # the default recipe always
)
def test_onnx(recipe: DenseRecipe, kind: str, tmp_path: Path) -> None:
    model, case = reference_clip(recipe=recipe, windows=kind == "slide"), reference_case(recipe.value)
    image = torch.from_numpy(case["resized"]).permute(2, 0, 1)[None].float()
    size = (int(image.shape[2]), int(image.shape[3]))
    graph = to_onnx(
        _Outputs(model, model.scorer(size)).eval(),
        (torch.zeros_like(image), torch.ones(6, 512)),
        [Port("image"), Port("text", ((0, "N"),))],
        ["cosines", "features"],
    )
    save(graph, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    cosines, features = session.run(None, {"image": image.numpy(), "text": case["text_embeddings"]})
    if kind == "slide":
        assert np.abs(features - case["window_features"]).max() <= FEATURE_BAR
    check_scores(torch.from_numpy(cosines), case, kind)
