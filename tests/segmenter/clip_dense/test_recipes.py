"""The parts of NACLIP and SC-CLIP against plain loops over what their papers say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.clip import open_clip_model, small_clip, small_weights

from ovs_edge.bundle.errors import UsageError
from ovs_edge.segmenter.clip_dense.config import DenseRecipe
from ovs_edge.segmenter.clip_dense.recipes import NaclipHead, ScClipHead, attention_of, averaging, outliers


@pytest.mark.parametrize("quick", [True, False])
def test_the_trunk_is_open_clips(quick: bool) -> None:
    """With an ordinary last block, the class token is what open_clip's image encoder gives."""
    expected, vision = open_clip_model(quick), small_weights(quick).model().vision
    pixels = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        tokens = vision.levels(vision.embed(pixels, vision.positions((7, 7))))[-1]
        found = vision.project(vision.last(tokens))[:, 0]
        torch.testing.assert_close(found, expected.encode_image(pixels), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("count", "neighbours"), [(49, 30), (12, 5), (41, 5)])
def test_outliers(count: int, neighbours: int) -> None:
    torch.manual_seed(count)
    patches = torch.randn(2, count, 8)
    patches[0, 3] *= 9
    found = outliers(patches, neighbours, 0.95).bool().numpy()
    for image, mask in zip(patches.double().numpy(), found, strict=True):
        distance = np.square(image[:, None] - image[None]).sum(-1)
        np.fill_diagonal(distance, np.inf)
        nearest = np.argsort(distance, axis=1)[:, : min(neighbours, count - 1)]
        reach = distance[np.arange(count), nearest[:, -1]]
        factor = np.array([np.mean([reach[i] / reach[j] for j in nearest[i]]) for i in range(count)])
        assert (mask == (factor > np.quantile(factor, 0.95))).all()
    assert found[0, 3]


def test_repair() -> None:
    head = ScClipHead(small_clip().vision.last, (3, 4))
    patches = torch.randn(1, 12, 5)
    outlier = torch.zeros(1, 12)
    outlier[0, [0, 1, 5]] = 1
    repaired = head._repaired(patches, outlier)[0].reshape(3, 4, 5)
    grid = patches[0].reshape(3, 4, 5)
    torch.testing.assert_close(repaired[0, 0], grid[1, 0])  # its only neighbour that is no outlier
    torch.testing.assert_close(repaired[0, 1], torch.stack([grid[0, 2], grid[1, 0], grid[1, 2]]).mean(0))
    torch.testing.assert_close(repaired[2], grid[2])
    everything = torch.ones(1, 12)
    torch.testing.assert_close(head._repaired(patches, everything), patches)


def test_patches_unlike_all_others() -> None:
    similar = torch.eye(4)[None]
    torch.testing.assert_close(averaging(similar, 0.4), similar, atol=2e-6, rtol=0)
    alone = averaging(torch.zeros(1, 4, 4), 0.4)
    assert bool(torch.isfinite(alone).all()) and float(alone.abs().max()) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_attention_of_an_entirely_masked_row(dtype: torch.dtype) -> None:
    """Cosines below the mean all along a row, as rounding makes them, give an even mean, and no NaN."""
    similar = torch.tensor([[[1.0, 0.9, 0.9], [0.9, 1.0, 0.9], [-1.0, -1.0, -1.0]]], dtype=dtype)
    weights = attention_of(similar, 3.0)
    assert bool(torch.isfinite(weights).all())
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, 3, dtype=dtype))
    torch.testing.assert_close(weights[0, 2].float(), torch.full((3,), 1 / 3), atol=1e-3, rtol=0)


def test_naclip_looks_at_neighbours() -> None:
    head = NaclipHead(small_clip().vision.last, (2, 3))
    nearness = head.nearness
    assert nearness.shape == (6, 7) and float(nearness[:, 0].abs().max()) == 0
    assert float(nearness[0, 1]) == 1
    np.testing.assert_allclose(float(nearness[0, 6]), np.exp(-(1 + 4) / 50), rtol=1e-6)


@pytest.mark.parametrize("recipe", list(DenseRecipe))
def test_plain_pictures(recipe: DenseRecipe) -> None:
    """A picture of one colour and one of noise give finite cosines."""
    model = small_clip(recipe=recipe, windows=False)
    text = torch.randn(3, 48)
    for image in (torch.full((1, 3, 64, 96), 104.0), torch.rand(1, 3, 64, 96) * 255):
        cosines = model(image, text)
        assert cosines.shape == (64, 96, 3)
        assert bool(torch.isfinite(cosines).all()) and float(cosines.abs().max()) <= 1 + 1e-5


def test_sides_are_multiples_of_the_patch() -> None:
    with pytest.raises(UsageError, match="expected multiples of 16"):
        small_clip()(torch.zeros(1, 3, 64, 100), torch.ones(1, 48))
