"""Losses against values worked out by hand, and gradients where they belong."""

from __future__ import annotations

import math

import pytest
import torch

from ovs_edge.training.losses.losses import LossOptions, PixelTextHead, Target, mask_losses, set_loss, uncertain_points
from ovs_edge.training.losses.matching import match, sample_logits, sample_segments


def _generators(count: int = 1) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(index) for index in range(count)]


def test_points_are_sampled_at_pixel_centres() -> None:
    maps = torch.arange(6.0).view(1, 1, 2, 3)
    points = torch.tensor([[[1 / 6, 0.25], [5 / 6, 0.75], [0.5, 0.5]]])
    assert sample_logits(maps, points)[0, 0].tolist() == pytest.approx([0, 5, 2.5], abs=1e-5)
    segments = torch.tensor([[[0, 1, 2], [3, 4, 5]]])
    assert sample_segments(segments, points)[0, :2].tolist() == [0, 5]


def test_matching_takes_the_cheapest_assignment() -> None:
    truth = torch.tensor([0, 0, 1, 1])
    masks = torch.tensor([[-9.0, -9, 9, 9], [9, 9, -9, -9], [-9, -9, -9, -9]])
    classes = torch.tensor([4, 2])
    queries, segments = match(torch.zeros(3, 6), masks, truth, classes, (2.0, 5.0, 5.0))
    assert dict(zip(segments.tolist(), queries.tolist(), strict=True)) == {0: 1, 1: 0}


def test_matching_ignores_what_is_not_labelled() -> None:
    truth = torch.tensor([0, 0, -1, -1])
    masks = torch.tensor([[9.0, 9, 9, 9], [9, 9, -9, -9]])
    logits = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    queries, _ = match(logits, masks, truth, torch.tensor([0]), (2.0, 5.0, 5.0))
    assert queries.tolist() == [0]  # equal masks where labelled: the class decides


def test_mask_losses_by_hand() -> None:
    """A constant logit z on a mask that is wanted everywhere: every point has the same cross-entropy and share."""
    logit, points = 0.5, 64
    masks = torch.full((1, 4, 4), logit)
    segments = torch.zeros(1, 8, 8, dtype=torch.int64)
    options = LossOptions(points=points)
    mask, dice = mask_losses(masks, segments, torch.tensor([0]), torch.tensor([0]), options, _generators())
    share = 1 / (1 + math.exp(-logit))
    assert float(mask) == pytest.approx(-math.log(share), abs=1e-6)
    assert float(dice) == pytest.approx(1 - (2 * points * share + 1) / (points * share + points + 1), abs=1e-6)


def test_unlabelled_points_count_for_nothing() -> None:
    segments = torch.full((1, 8, 8), -1)
    segments[:, :, :4] = 0
    right = torch.full((1, 8, 8), 20.0)
    wrong_outside = right.clone()
    wrong_outside[:, :, 5:] = -20.0
    options = LossOptions(points=256)
    for masks in (right, wrong_outside):
        mask, dice = mask_losses(masks, segments, torch.tensor([0]), torch.tensor([0]), options, _generators())
        assert float(mask) < 1e-6
        assert float(dice) < 0.01


def test_set_loss_classification_by_hand() -> None:
    """One segment, two queries: cross-entropy with the unmatched query at the weight of "no object"."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # columns: the class, "no object"
    masks = torch.stack((torch.full((4, 4), 9.0), torch.full((4, 4), -9.0)))[None]
    target = Target(torch.zeros(8, 8, dtype=torch.int64), torch.tensor([0]))
    loss = set_loss([logits], masks, [target], LossOptions(points=16, no_object=0.1), _generators())
    matched = -math.log(math.exp(2) / (math.exp(2) + 1))
    unmatched = -math.log(math.exp(1) / (math.exp(1) + 1))
    assert float(loss.classification) == pytest.approx((matched + 0.1 * unmatched) / 1.1, abs=1e-6)
    assert float(loss.mask) == pytest.approx(math.log1p(math.exp(-9.0)), abs=1e-6)
    options = LossOptions()
    total = 2 * loss.classification + 5 * loss.mask + 5 * loss.dice
    assert float(loss.total(options)) == pytest.approx(float(total))


def test_an_image_without_labels_gives_a_finite_loss() -> None:
    masks = torch.randn(1, 3, 4, 4, requires_grad=True)
    target = Target(torch.full((8, 8), -1), torch.zeros(0, dtype=torch.int64))
    loss = set_loss([torch.randn(3, 5, requires_grad=True)], masks, [target], LossOptions(points=16), _generators())
    total = loss.total(LossOptions())
    total.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(total)


def test_gradients_reach_matched_masks_only() -> None:
    masks = torch.stack((torch.full((4, 4), 2.0), torch.full((4, 4), -2.0)))[None].requires_grad_()
    logits = torch.zeros(2, 3, requires_grad=True)
    target = Target(torch.zeros(8, 8, dtype=torch.int64), torch.tensor([1]))
    loss = set_loss([logits], masks, [target], LossOptions(points=32), _generators())
    loss.total(LossOptions()).backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None and logits.grad is not None
    assert float(masks.grad[0, 0].abs().sum()) > 0
    assert float(masks.grad[0, 1].abs().sum()) == 0
    assert float(logits.grad.abs().sum(1).min()) > 0


def test_uncertain_points_lie_near_the_boundary() -> None:
    ramp = torch.linspace(-8, 8, 32).expand(1, 32, 32).contiguous()
    options = LossOptions(points=200, uncertain=0.75)
    points = uncertain_points(ramp, options, _generators())
    assert points.shape == (1, 200, 2)
    unsure, free = points[0, :150, 0], points[0, 150:, 0]
    assert float((unsure - 0.5).abs().mean()) < 0.5 * float((free - 0.5).abs().mean())


def test_pixel_text_loss_by_hand() -> None:
    """A head that copies features into the text space: the logit of a class is the feature's share of its vector."""
    head = PixelTextHead(2, 2)
    with torch.no_grad():
        head.project.weight.copy_(torch.eye(2))
        head.project.bias.zero_()
        head.logit_scale.zero_()
    features = torch.tensor([3.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    segments = torch.tensor([[0, 0], [-1, -1]])
    loss, labelled = head(features, torch.eye(2), [Target(segments, torch.tensor([1]))])
    assert int(labelled) == 2
    assert float(loss.detach()) == pytest.approx(2 * math.log(1 + math.exp(2.0)), abs=1e-6)
