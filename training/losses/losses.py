"""The set loss of Mask2Former at one decoder depth, and the dense pixel-text loss beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..distributed import shared_count
from .matching import BACKGROUND, UNLABELLED, match, random_points, sample_logits, sample_segments


@dataclass(frozen=True)
class LossOptions:
    """Weights of the terms. The paper's: 2, 5, 5."""

    classification: float = 2.0
    mask: float = 5.0
    dice: float = 5.0
    no_object: float = 0.1  # weight of "no object" in the classification
    background: float = 0.5  # pixel-text loss: weight of a background pixel beside a labelled one
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
class SegmentTarget:
    """Truth of one image."""

    segments: Tensor  # (H, W) int64: segment index, `UNLABELLED`, or `BACKGROUND`
    classes: Tensor  # (T,) int64, class index of each segment


@dataclass(frozen=True)
class SetLoss:
    """Terms before weighting."""

    classification: Tensor
    mask: Tensor
    dice: Tensor
    matches: list[tuple[Tensor, Tensor]]  # per image the queries (M,) and the segments (M,) they answer for
    covers: list[Coverage]  # per image where the queries' masks lie

    def total(self, options: LossOptions) -> Tensor:
        """Weighted sum."""
        return options.classification * self.classification + options.mask * self.mask + options.dice * self.dice


def set_loss(
    class_logits: list[Tensor],
    mask_logits: Tensor,
    targets: list[SegmentTarget],
    options: LossOptions,
    generators: Sequence[torch.Generator],
    own: Sequence[int] | None = None,
) -> SetLoss:
    """Match, then classify and shape the matched queries.

    class_logits: per image (Q, K_i + 1), since images may have vocabularies of their own; mask_logits (B, Q, h, w);
    generators: one per image, so that an image's random points do not depend on the other images; own: see
    `classification_loss`.
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
    covers = [coverage(values[index], truth[index]) for index in range(len(targets))]
    classification = classification_loss(class_logits, matches, wanted, covers, options.no_object, own)
    masks = torch.cat([mask_logits[index, queries] for index, (queries, _) in enumerate(matches)])
    owner = torch.cat([torch.full_like(which, index) for index, (_, which) in enumerate(matches)])
    segment = torch.cat([which for _, which in matches])
    mask, dice = mask_losses(masks, segments, owner, segment, options, generators)
    return SetLoss(classification, mask, dice, matches, covers)


@dataclass(frozen=True)
class Coverage:
    """Shares of each query's mask on segments and on background."""

    labelled: Tensor  # (Q,) share on segments, 0..1
    background: Tensor  # (Q,) share on pixels that show none of the dataset's classes, 0..1


def coverage(mask_points: Tensor, segment_points: Tensor) -> Coverage:
    """mask_points (Q, P) logits, segment_points (P,) as in `match` -> shares of the masks' areas."""
    area = mask_points.sigmoid()
    total = area.sum(-1).clamp(min=1e-6)
    labelled, background = (area @ part.to(area.dtype) for part in (segment_points >= 0, segment_points == BACKGROUND))
    return Coverage(labelled / total, background / total)


def classification_loss(
    logits: list[Tensor],
    matches: list[tuple[Tensor, Tensor]],
    wanted: list[Tensor],
    covers: list[Coverage],
    no_object: float,
    own: Sequence[int] | None = None,
) -> Tensor:
    """Cross-entropy of every query, the mean of the images' means.

    logits: per image (Q, K_i + 1), the last column "no object"; wanted: per image (M,) the column of each matched
    query; covers: where the masks of the image's queries lie; own: per image how many of the first columns are classes
    of its own dataset, the others being class names of other datasets; all by default.

    An unmatched query weighs `no_object`. The target depends on where its mask lies. On segments it is a duplicate: the
    target is "no object". On background the target is any column but the dataset's own classes, "no object" or a class
    of another dataset: for a dataset of animals the sky behind a sheep is background. On unlabelled pixels it has no
    target. A mask on several of these has a share of each.
    """
    total = logits[0].new_zeros(())
    for index, (row, (queries, _), columns, cover) in enumerate(zip(logits, matches, wanted, covers, strict=True)):
        log = row.log_softmax(-1)
        classes = row.shape[1] - 1 if own is None else own[index]
        free = row.new_full((len(row),), no_object)
        free[queries] = 0
        duplicate, background = free * cover.labelled, free * cover.background
        loss = -(duplicate * log[:, -1] + background * log[:, classes:].logsumexp(-1)).sum()
        loss = loss - log[queries, columns].sum()
        total = total + loss / (len(queries) + (duplicate + background).sum()).clamp(min=1e-6)
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

    segments (B, H, W); owner (N,) image of each mask; segment (N,) its segment; generators: one per image. Unlabelled
    points count for nothing; background counts as outside every mask.
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
    known = (truth != UNLABELLED).to(values.dtype)
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

    The text vectors become the kernel of a 1x1 convolution, so that no map of D channels is ever made. One more learned
    vector means "none of these names".
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, dim)
        self.logit_scale = nn.Parameter(torch.tensor(2.66))
        self.none = nn.Parameter(torch.randn(1, dim) / dim**0.5)

    def forward(
        self, features: Tensor, text: Tensor, targets: list[SegmentTarget], own: int, background: float
    ) -> tuple[Tensor, Tensor]:
        """features (B, C, h, w), text (K, D) unit of which the first `own` are the dataset's classes, targets of B
        images -> sum of the pixels' cross-entropy, and the sum of their weights: 1 where labelled, `background`
        there.

        The target of a background pixel is any column but the dataset's own classes.
        """
        labels = torch.stack([class_map(target, features.shape[2:]) for target in targets])
        names = torch.cat((text, nn.functional.normalize(self.none, dim=-1)))
        kernel = (names @ self.project.weight)[:, :, None, None]
        logits = nn.functional.conv2d(features, kernel, names @ self.project.bias).float()
        log = (logits * self.logit_scale.exp().clamp(max=100)).log_softmax(1)
        loss = nn.functional.nll_loss(log, labels.clamp(min=-1), ignore_index=-1, reduction="sum")
        empty = labels == BACKGROUND
        loss = loss - background * (log[:, own:].logsumexp(1) * empty).sum()
        return loss, (labels >= 0).sum() + background * empty.sum()


def class_map(target: SegmentTarget, size: Sequence[int]) -> Tensor:
    """Class index of each place (h, w) of a smaller map, or `UNLABELLED` or `BACKGROUND`."""
    labels = target.segments.clamp(max=UNLABELLED)
    if len(target.classes):
        labels = torch.where(target.segments >= 0, target.classes[target.segments.clamp(min=0)], labels)
    resized = nn.functional.interpolate(labels[None, None].float(), size=tuple(size), mode="nearest-exact")
    return resized[0, 0].long()
