"""The set loss of Mask2Former at one decoder depth, and the dense pixel-text loss beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..distributed import shared_count
from .matching import match, random_points, sample_logits, sample_segments


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms. The paper's: 2, 5, 5."""

    classification: float = 2.0
    mask: float = 5.0
    dice: float = 5.0
    no_object: float = 0.1  # weight of "no object" in the classification
    pixel_text: float = 2.0  # dense loss beside the set loss; makes small data converge
    drawn: float = 0.0  # classification over the names drawn in the image, beside the one over all classes
    absent: bool = False  # a name of each category that the image does not show competes with those drawn
    region: float = 0.0  # distillation: distance of a query from its region's vector by the teacher
    pairs: float = 0.0  # distillation: regions of an image as alike as their names
    centred: bool = False  # distillation compares what is left of both sides without their means
    trusted: int = 0  # distil only regions whose class is among the teacher's so many nearest names; 0: all regions
    region_dropout: float = 0.0  # share of the regions that a step leaves out of the distillation
    points: int = 1024  # sampled per mask
    oversample: int = 3  # candidates per kept uncertain point
    uncertain: float = 0.75  # share of points that lie where the prediction is unsure


@dataclass(frozen=True)
class Target:
    """Truth of one image."""

    segments: Tensor  # (H, W) int64, segment index, -1 where not labelled
    classes: Tensor  # (T,) int64, class index of each segment


@dataclass(frozen=True)
class SetLoss:
    """Terms before weighting."""

    classification: Tensor
    mask: Tensor
    dice: Tensor
    matches: list[tuple[Tensor, Tensor]]  # per image the queries (M,) and the segments (M,) they answer for

    def total(self, options: LossOptions) -> Tensor:
        """Weighted sum."""
        return options.classification * self.classification + options.mask * self.mask + options.dice * self.dice


def set_loss(
    class_logits: list[Tensor],
    mask_logits: Tensor,
    targets: list[Target],
    options: LossOptions,
    generators: Sequence[torch.Generator],
) -> SetLoss:
    """Match, then classify and shape the matched queries.

    class_logits: per image (Q, K_i + 1), since images may have vocabularies of their own; mask_logits (B, Q, h, w);
    generators: one per image, so that what an image meets does not depend on its neighbours.
    """
    points = random_points(generators, options.points, mask_logits.device)
    values = sample_logits(mask_logits.detach(), points)
    segments = torch.stack([target.segments for target in targets])
    truth = sample_segments(segments, points)
    weights = (options.classification, options.mask, options.dice)
    matches = [
        match(logits, values[index], truth[index], target.classes, weights)
        for index, (logits, target) in enumerate(zip(class_logits, targets, strict=True))
    ]
    wanted = [target.classes[which] for target, (_, which) in zip(targets, matches, strict=True)]
    classification = classification_loss(class_logits, matches, wanted, options.no_object)
    masks = torch.cat([mask_logits[index, queries] for index, (queries, _) in enumerate(matches)])
    owner = torch.cat([torch.full_like(which, index) for index, (_, which) in enumerate(matches)])
    segment = torch.cat([which for _, which in matches])
    mask, dice = mask_losses(masks, segments, owner, segment, options, generators)
    return SetLoss(classification, mask, dice, matches)


def classification_loss(
    logits: list[Tensor], matches: list[tuple[Tensor, Tensor]], wanted: list[Tensor], no_object: float
) -> Tensor:
    """Cross-entropy of every query, the mean of the images' means.

    logits: per image (Q, K_i + 1), the last column "no object"; wanted: per image (M,) the column of each matched query;
    the other queries want "no object", which weighs `no_object`.
    """
    total = logits[0].new_zeros(())
    for row, (queries, _), columns in zip(logits, matches, wanted, strict=True):
        labels = torch.full((len(row),), row.shape[1] - 1, dtype=torch.int64, device=row.device)
        labels[queries] = columns
        importance = row.new_ones(row.shape[1])
        importance[-1] = no_object
        total = total + nn.functional.cross_entropy(row, labels, importance)
    return total / len(logits)


def mask_losses(
    masks: Tensor,
    segments: Tensor,
    owner: Tensor,
    segment: Tensor,
    options: LossOptions,
    generators: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and dice of masks (N, h, w) on points where they are unsure, means over all masks.

    segments (B, H, W); owner (N,) image of each mask; segment (N,) its segment; generators: one per image. Points that
    are not labelled count for nothing.
    """
    count = shared_count(torch.tensor(len(masks), device=masks.device))
    if not len(masks):
        return masks.sum(), masks.sum()  # zero, with a gradient
    points = uncertain_points(masks.detach(), options, [generators[image] for image in owner.tolist()])
    values = sample_logits(masks[:, None], points)[:, 0]
    truth = torch.stack(
        [
            sample_segments(segments[image][None], place[None])[0]
            for image, place in zip(owner.tolist(), points, strict=True)
        ]
    )
    known = (truth >= 0).to(values.dtype)
    wanted = (truth == segment[:, None]).to(values.dtype)
    cross = nn.functional.binary_cross_entropy_with_logits(values, wanted, reduction="none")
    mask = (cross * known).sum(-1) / known.sum(-1).clamp(min=1)
    share = values.sigmoid() * known
    dice = 1 - (2 * (share * wanted).sum(-1) + 1) / (share.sum(-1) + (wanted * known).sum(-1) + 1)
    return mask.sum() / count, dice.sum() / count


@torch.no_grad()
def uncertain_points(masks: Tensor, options: LossOptions, generators: Sequence[torch.Generator]) -> Tensor:
    """Points per mask (N, P, 2): most of them where the logit is nearest zero, the rest anywhere."""
    count = options.points
    unsure = int(options.uncertain * count)
    candidates = random_points(generators, options.oversample * count, masks.device)
    values = sample_logits(masks[:, None], candidates)[:, 0]
    nearest = values.abs().topk(unsure, largest=False).indices
    chosen = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))
    return torch.cat((chosen, random_points(generators, count - unsure, masks.device)), 1)


class PixelTextHead(nn.Module):
    """Classifies feature maps pixel by pixel against the text vectors; used in training only.

    The text vectors become the kernel of a 1x1 convolution, so that no map of D channels is ever made.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, dim)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, features: Tensor, text: Tensor, targets: list[Target]) -> tuple[Tensor, Tensor]:
        """features (B, C, h, w), text (K, D) unit, targets of B images -> sum of the labelled pixels' cross-entropy, and
        how many there are."""
        labels = torch.stack([class_map(target, features.shape[2:]) for target in targets])
        kernel = (text @ self.project.weight)[:, :, None, None]
        logits = nn.functional.conv2d(features, kernel, text @ self.project.bias).float()
        logits = logits * self.logit_scale.exp().clamp(max=100)
        return nn.functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum"), (labels >= 0).sum()


def class_map(target: Target, size: Sequence[int]) -> Tensor:
    """Class index of each place (h, w) of a smaller map, -1 where not labelled."""
    labels = torch.full_like(target.segments, -1)
    if len(target.classes):
        labels = torch.where(target.segments >= 0, target.classes[target.segments.clamp(min=0)], labels)
    resized = nn.functional.interpolate(labels[None, None].float(), size=tuple(size), mode="nearest-exact")
    return resized[0, 0].long()
