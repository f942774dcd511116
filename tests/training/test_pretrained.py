"""The published weights that a backbone starts from."""

from __future__ import annotations

import pytest
import torch

from ovs_edge.segmenter.config import BackboneKind, preset
from ovs_edge.segmenter.dense import DenseSegmenter
from ovs_edge.segmenter.layouts.registry import build_model
from ovs_edge.training.pretrained import load_pretrained, packaged_lite


@pytest.mark.parametrize(
    ("name", "kind", "blocks"), [("dense_mini", "efficientnet_lite0", 16), ("dense_small", "efficientnet_lite2", 21)]
)
def test_a_backbone_has_the_weights_of_its_package(name: str, kind: BackboneKind, blocks: int) -> None:
    config = preset(name)
    model = build_model(config).eval()
    assert isinstance(model, DenseSegmenter)
    load_pretrained(model)
    packaged = [value for key, value in packaged_lite(kind).items() if key.endswith("_project_conv.weight")]
    loaded = [value for key, value in model.backbone.state_dict().items() if key.endswith("project.0.weight")]
    assert len(packaged) == len(loaded) == blocks
    assert all(torch.equal(one, other) for one, other in zip(packaged, loaded, strict=True))
    embeddings, details = model.features(torch.rand(1, 3, 64, 96) * 255)
    assert config.dense is not None
    assert embeddings.shape == (1, config.dense.embedding, 8, 12)
    assert details.shape == (1, config.dense.detail_channels, 16, 24)
