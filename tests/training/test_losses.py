"""Losses against values worked out by hand, and gradients where they belong."""

from __future__ import annotations

import math

import pytest
import torch

from ovs_edge.training.losses.losses import (
    Coverage,
    LossOptions,
    PixelTextHead,
    SegmentTarget,
    classification_loss,
    coverage,
    mask_losses,
    set_loss,
    uncertain_points,
)
from ovs_edge.training.losses.matching import BACKGROUND, match, sample_logits, sample_segments


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
    target = SegmentTarget(torch.zeros(8, 8, dtype=torch.int64), torch.tensor([0]))
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
    target = SegmentTarget(torch.full((8, 8), -1), torch.zeros(0, dtype=torch.int64))
    loss = set_loss([torch.randn(3, 5, requires_grad=True)], masks, [target], LossOptions(points=16), _generators())
    total = loss.total(LossOptions())
    total.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(total)


def test_gradients_reach_matched_masks_only() -> None:
    masks = torch.stack((torch.full((4, 4), 2.0), torch.full((4, 4), -2.0)))[None].requires_grad_()
    logits = torch.zeros(2, 3, requires_grad=True)
    target = SegmentTarget(torch.zeros(8, 8, dtype=torch.int64), torch.tensor([1]))
    loss = set_loss([logits], masks, [target], LossOptions(points=32), _generators())
    loss.total(LossOptions()).backward()  # type: ignore[no-untyped-call]
    assert masks.grad is not None
    assert logits.grad is not None
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


def test_background_is_outside_every_mask() -> None:
    """What is not labelled counts for nothing; the same pixels as background punish a mask that covers them."""
    segments = torch.full((1, 8, 8), BACKGROUND)
    segments[:, :, :4] = 0
    everywhere = torch.full((1, 8, 8), 20.0)
    right = everywhere.clone()
    right[:, :, 4:] = -20.0
    options = LossOptions(points=256)
    zero = torch.tensor([0])
    found = [mask_losses(masks, segments, zero, zero, options, _generators()) for masks in (right, everywhere)]
    assert float(found[0][1]) < 0.1
    assert float(found[1][0]) > 5
    assert float(found[1][1]) > 0.25


def test_matching_prefers_masks_that_leave_the_background_free() -> None:
    truth = torch.tensor([0, 0, BACKGROUND, BACKGROUND])
    masks = torch.tensor([[9.0, 9, 9, 9], [9, 9, -9, -9]])
    queries, _ = match(torch.tensor([[3.0, 0.0], [0.0, 0.0]]), masks, truth, torch.tensor([0]), (2.0, 5.0, 5.0))
    assert queries.tolist() == [1]


def test_coverage_is_a_share_of_the_mask() -> None:
    masks = torch.tensor([[9.0, 9, -9, -9], [-9, 9, 9, 9], [9, 9, 9, 9]]) * 3
    cover = coverage(masks, torch.tensor([0, -1, BACKGROUND, 1]))
    assert cover.labelled.tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 2], abs=1e-4)
    assert cover.background.tolist() == pytest.approx([0, 1 / 3, 1 / 4], abs=1e-4)


def test_a_query_without_a_segment_wants_what_is_known_where_it_lies() -> None:
    """Columns: own class, name of another dataset, "no object". Four free queries of the same logits."""
    row = torch.tensor([1.0, 2.0, 0.5], requires_grad=True)
    p = row.detach().softmax(0)
    none = (torch.empty(0, dtype=torch.int64),) * 2
    for labelled, background, wanted in (
        (1.0, 0.0, -math.log(p[2])),
        (0.0, 1.0, -math.log(p[1] + p[2])),
        (0.5, 0.25, (0.5 * -math.log(p[2]) + 0.25 * -math.log(p[1] + p[2])) / 0.75),
        (0.0, 0.0, 0.0),
    ):
        cover = Coverage(torch.tensor([labelled]), torch.tensor([background]))
        loss = classification_loss([row[None]], [none], [none[0]], [cover], 0.1, [1])
        assert float(loss.detach()) == pytest.approx(wanted, abs=1e-5)
    # Without names of other datasets, background and a duplicate want the same.
    cover = Coverage(torch.tensor([0.0]), torch.tensor([1.0]))
    assert float(classification_loss([row[None]], [none], [none[0]], [cover], 0.1).detach()) == pytest.approx(
        -math.log(p[2]), abs=1e-5
    )


def test_a_name_of_another_dataset_is_no_fault_on_background() -> None:
    row = torch.tensor([0.0, 0.0, 0.0], requires_grad=True)
    none = (torch.empty(0, dtype=torch.int64),) * 2
    cover = Coverage(torch.tensor([0.0]), torch.tensor([1.0]))
    classification_loss([row[None]], [none], [none[0]], [cover], 0.1, [1]).backward()  # type: ignore[no-untyped-call]
    assert row.grad is not None
    own, other, void = row.grad.tolist()
    assert own > 0 > other == void


def test_pixel_text_loss_by_hand() -> None:
    """A head that copies features into the text space: the logit of a class is the feature's share of its vector."""
    head = PixelTextHead(2, 2)
    with torch.no_grad():
        head.project.weight.copy_(torch.eye(2))
        head.project.bias.zero_()
        head.logit_scale.zero_()
        head.none.copy_(torch.tensor([[0.0, -7.0]]))  # of unit length: the logit is minus the second feature
    features = torch.tensor([3.0, 1.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    first, second, none = (value / (math.e**3 + math.e + 1 / math.e) for value in (math.e**3, math.e, 1 / math.e))
    segments = torch.tensor([[0, 0], [-1, -1]])
    loss, weight = head(features, torch.eye(2), [SegmentTarget(segments, torch.tensor([1]))], 2, 0.5)
    assert int(weight) == 2
    assert float(loss.detach()) == pytest.approx(-2 * math.log(second), abs=1e-5)
    segments = torch.tensor([[-1, BACKGROUND], [BACKGROUND, BACKGROUND]])
    target = [SegmentTarget(segments, torch.empty(0, dtype=torch.int64))]
    for own, wanted in ((2, none), (1, none + second), (0, first + second + none)):
        loss, weight = head(features, torch.eye(2), target, own, 0.5)
        assert float(weight) == 1.5
        assert float(loss.detach()) == pytest.approx(-1.5 * math.log(wanted), abs=1e-5)
