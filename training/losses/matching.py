"""Which query answers for which segment: the cheapest assignment (Carion et al. 2020), costs on sampled points."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

# Values of a segment map beside the indices of segments.
UNLABELLED = -1  # nothing is known
BACKGROUND = -2  # known to be none of the classes of the image's dataset; classes of other datasets may be there


def random_points(generators: Sequence[torch.Generator], count: int, device: torch.device) -> Tensor:
    """(N, count, 2) x, y in 0..1, a row from each generator, drawn on the CPU so that every device sees the same."""
    if not generators:
        return torch.empty(0, count, 2, device=device)
    return torch.stack([torch.rand(count, 2, generator=generator) for generator in generators]).to(device)


def sample_logits(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps (N, C, h, w) at points (N, P, 2) in 0..1: (N, C, P)."""
    values = nn.functional.grid_sample(maps, points[:, None] * 2 - 1, align_corners=False, padding_mode="border")
    return values[:, :, 0]


def sample_segments(segments: Tensor, points: Tensor) -> Tensor:
    """Nearest value of segment maps (N, H, W) at points (N, P, 2) in 0..1: (N, P)."""
    height, width = segments.shape[1:]
    x = (points[..., 0] * width).long().clamp(0, width - 1)
    y = (points[..., 1] * height).long().clamp(0, height - 1)
    return segments.flatten(1).gather(1, y * width + x)


@torch.no_grad()
def match(
    class_logits: Tensor,
    mask_points: Tensor,
    segment_points: Tensor,
    classes: Tensor,
    weights: tuple[float, float, float],
) -> tuple[Tensor, Tensor]:
    """Assign segments to queries of one image.

    class_logits (Q, K + 1); mask_points (Q, P) logits; segment_points (P,) segment index, `UNLABELLED` or
    `BACKGROUND`; classes (T,) class of each segment; weights of class, mask and dice. Returns query indices (T,),
    segment indices (T,).
    """
    wanted = (segment_points[None] == torch.arange(len(classes), device=classes.device)[:, None]).float()  # (T, P)
    known = (segment_points != UNLABELLED).float()
    probability = class_logits.softmax(-1)[:, classes]
    positive = nn.functional.softplus(-mask_points) * known
    negative = nn.functional.softplus(mask_points) * known
    total = known.sum().clamp(min=1)
    mask_cost = (positive @ wanted.T + negative @ (1 - wanted).T) / total
    masks = mask_points.sigmoid() * known
    dice_cost = 1 - (2 * masks @ wanted.T + 1) / (masks.sum(-1)[:, None] + wanted.sum(-1)[None] + 1)
    cost = -weights[0] * probability + weights[1] * mask_cost + weights[2] * dice_cost
    rows, columns = linear_sum_assignment(cost.nan_to_num(1e4, 1e4, 1e4).numpy(force=True))
    device = classes.device
    return torch.as_tensor(rows, device=device), torch.as_tensor(columns, device=device)
