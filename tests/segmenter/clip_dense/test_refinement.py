"""Refinements of scores against plain loops, and what they do to an outline."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ovs_edge.segmenter.clip_dense.config import ScoreRefinement
from ovs_edge.segmenter.clip_dense.refinement import GuidedFilter, Pamr, refinement, score_stride


def test_pamr() -> None:
    """One step against the paper's sums, pixel by pixel."""
    torch.manual_seed(0)
    pamr = Pamr()
    pamr.STEPS = 1
    image, scores = torch.randn(20, 24, 3), torch.randn(20, 24, 2)
    found = pamr(scores, image).numpy()
    colours, values = image.double().numpy(), scores.double().numpy()
    for y, x in ((0, 0), (10, 12), (19, 5)):
        places = [
            (min(max(y + down * step, 0), 19), min(max(x + right * step, 0), 23))
            for step in (8, 16)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
        ]
        around = np.array([colours[place] for place in places])  # the pixel itself among them, once for each dilation
        others = [place for index, place in enumerate(places) if index % 9 != 4]
        unlike = np.abs(np.array([colours[place] for place in others]) - colours[y, x])
        weights = np.exp(-(unlike / (1e-8 + 0.1 * around.std(0, ddof=1))).mean(1))
        expected = (weights[:, None] * np.array([values[place] for place in others])).sum(0) / weights.sum()
        np.testing.assert_allclose(found[y, x], expected, atol=1e-5)


def test_guided_filter() -> None:
    """A square of the fit against least squares with ridge, and the constant that a linear map must keep."""
    torch.manual_seed(1)
    image, scores = torch.randn(28, 32, 3), torch.randn(7, 8, 2)
    guided = GuidedFilter()
    small = torch.nn.functional.avg_pool2d(image.permute(2, 0, 1)[None], 4)[0].double().numpy()
    y, x, radius = 3, 4, guided.RADIUS
    square = np.s_[y - radius : y + radius + 1, x - radius : x + radius + 1]
    colours = small[:, square[0], square[1]].reshape(3, -1)
    values = scores.double().numpy()[square].reshape(-1, 2)
    centred = colours - colours.mean(1, keepdims=True)
    covariance = centred @ centred.T / centred.shape[1] + guided.SMOOTHNESS * np.eye(3)
    expected = np.linalg.solve(covariance, centred @ (values - values.mean(0)) / centred.shape[1])
    from ovs_edge.segmenter.clip_dense import refinement as module

    maps, guide = scores.permute(2, 0, 1)[None], torch.from_numpy(small)[None].float()
    mean, guide_mean = guided._mean(maps), guided._mean(guide)
    shared = [guided._mean(guide[:, i, None] * maps) - guide_mean[:, i, None] * mean for i in range(3)]
    colour = guided._mean(guide[:, module._FIRST] * guide[:, module._SECOND])
    colour = colour - guide_mean[:, module._FIRST] * guide_mean[:, module._SECOND]
    slopes = module._solve(colour, guided.SMOOTHNESS, shared)
    np.testing.assert_allclose(np.stack([slope[0, :, y, x].numpy() for slope in slopes]), expected, atol=1e-4)
    constant = guided(torch.full((7, 8, 1), 3.0), image)
    torch.testing.assert_close(constant, torch.full((28, 32, 1), 3.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", [ScoreRefinement.pamr, ScoreRefinement.guided])
def test_names_are_weighed_as_before(kind: ScoreRefinement) -> None:
    """Both are linear in the scores."""
    torch.manual_seed(2)
    refine = refinement(kind)
    assert refine is not None
    stride = score_stride(kind, (32, 48))
    image = torch.randn(32, 48, 3)
    first, second = torch.randn(2, 32 // stride, 48 // stride, 4)
    torch.testing.assert_close(
        refine(2 * first + second, image), 2 * refine(first, image) + refine(second, image), atol=1e-4, rtol=1e-4
    )


def test_an_outline_of_the_image_is_met() -> None:
    """A soft edge at the wrong column moves to where the colours change."""
    image = torch.zeros(32, 48, 3)
    image[:, 20:] = 2.0
    ramp = torch.linspace(1, -1, 12).expand(8, 12)[..., None]  # crosses zero at column 24
    found = GuidedFilter()(ramp, image)[:, :, 0]
    assert bool((found[8:24, 16:20] > 0).all()) and float(found[16, 19] - found[16, 20]) > 0.1


@pytest.mark.parametrize(("size", "stride"), [((336, 448), 4), ((322, 448), 2), ((35, 49), 1)])
def test_stride(size: tuple[int, int], stride: int) -> None:
    assert score_stride(ScoreRefinement.guided, size) == stride
    assert score_stride(ScoreRefinement.pamr, size) == 1
