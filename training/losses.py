"""The set loss of Mask2Former at one decoder depth, and the dense pixel-text loss beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ovs_edge.training.matching import match, random_points, sample_logits, sample_segments


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms. The paper's: 2, 5, 5."""

    classification: float = 2.0
    mask: float = 5.0
    dice: float = 5.0
    no_object: float = 0.1  # weight of "no object" in the classification
    pixel_text: float = 2.0  # dense loss beside the set loss; makes small data converge
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

    def total(self, options: LossOptions) -> Tensor:
        """Weighted sum."""
        return options.classification * self.classification + options.mask * self.mask + options.dice * self.dice


def set_loss(
    class_logits: list[Tensor],
    mask_logits: Tensor,
    targets: list[Target],
    options: LossOptions,
    generator: torch.Generator,
) -> SetLoss:
    """Match, then classify and shape the matched queries.

    class_logits: per image (Q, K_i + 1), since images may have vocabularies of their own; mask_logits (B, Q, h, w).
    """
    points = random_points(len(targets), options.points, generator, mask_logits.device)
    values = sample_logits(mask_logits.detach(), points)
    segments = torch.stack([target.segments for target in targets])
    truth = sample_segments(segments, points)
    weights = (options.classification, options.mask, options.dice)
    picked, owners, wanted = [], [], []
    classification = mask_logits.new_zeros(())
    for index, (logits, target) in enumerate(zip(class_logits, targets, strict=True)):
        queries, which = match(logits, values[index], truth[index], target.classes, weights)
        labels = torch.full((len(logits),), logits.shape[1] - 1, dtype=torch.int64, device=logits.device)
        labels[queries] = target.classes[which]
        importance = logits.new_ones(logits.shape[1])
        importance[-1] = options.no_object
        classification = classification + nn.functional.cross_entropy(logits, labels, importance)
        picked.append(mask_logits[index, queries])
        owners.append(torch.full_like(which, index))
        wanted.append(which)
    masks, owner, segment = torch.cat(picked), torch.cat(owners), torch.cat(wanted)
    classification = classification / len(targets)
    if not len(masks):
        zero = mask_logits.sum() * 0
        return SetLoss(classification, zero, zero)
    mask, dice = mask_losses(masks, segments, owner, segment, options, generator)
    return SetLoss(classification, mask, dice)


def mask_losses(
    masks: Tensor, segments: Tensor, owner: Tensor, segment: Tensor, options: LossOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy and dice of masks (N, h, w) on points where they are unsure.

    segments (B, H, W); owner (N,) image of each mask; segment (N,) its segment. Points that are not labelled count
    for nothing.
    """
    points = uncertain_points(masks.detach(), options, generator)
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
    mask = ((cross * known).sum(-1) / known.sum(-1).clamp(min=1)).mean()
    share = values.sigmoid() * known
    dice = 1 - (2 * (share * wanted).sum(-1) + 1) / (share.sum(-1) + (wanted * known).sum(-1) + 1)
    return mask, dice.mean()


@torch.no_grad()
def uncertain_points(masks: Tensor, options: LossOptions, generator: torch.Generator) -> Tensor:
    """Points per mask (N, P, 2): most of them where the logit is nearest zero, the rest anywhere."""
    count = options.points
    unsure = int(options.uncertain * count)
    candidates = random_points(len(masks), options.oversample * count, generator, masks.device)
    values = sample_logits(masks[:, None], candidates)[:, 0]
    nearest = values.abs().topk(unsure, largest=False).indices
    chosen = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))
    return torch.cat((chosen, random_points(len(masks), count - unsure, generator, masks.device)), 1)


class PixelTextHead(nn.Module):
    """Classifies feature maps pixel by pixel against the text vectors; used in training only.

    The text vectors become the kernel of a 1x1 convolution, so that no map of D channels is ever made.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, dim)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, features: Tensor, text: Tensor, targets: list[Target]) -> Tensor:
        """features (B, C, h, w), text (K, D) unit, targets of B images -> mean cross-entropy of labelled pixels."""
        size = features.shape[2:]
        labels = torch.stack(
            [
                torch.where(target.segments >= 0, target.classes[target.segments.clamp(min=0)], -1)
                if len(target.classes)
                else torch.full_like(target.segments, -1)
                for target in targets
            ]
        )
        labels = nn.functional.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()
        kernel = (text @ self.project.weight)[:, :, None, None]
        logits = nn.functional.conv2d(features, kernel, text @ self.project.bias)
        logits = logits * self.logit_scale.exp().clamp(max=100)
        loss = nn.functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        return loss / (labels >= 0).sum().clamp(min=1)
