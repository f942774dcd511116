"""What one step computes for a model without queries: all places of a crop classified at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...segmenter.dense import DenseSegmenter
from ..distillation.distill import Distiller, Regions, distill
from ..distributed import shared_count
from ..photos.batches import Batch
from .losses import LossOptions, SegmentTarget, class_map
from .matching import BACKGROUND, UNLABELLED, sample_logits
from .objective import Terms

_LEAST_AREA = 16  # places: smaller regions weigh no more than one of that size
_NEAR = 2  # pixels from where labels change: so far reaches an outline
_MOST_OTHERS = 64  # names of other datasets that compete in one step, drawn anew for each


class DenseObjective(nn.Module):
    """The losses around a `DenseSegmenter`.

    classification: cross-entropy of the places at stride 4. A place of a region weighs less the larger the region is,
    by the root of its area; on background any name but the dataset's own is right. mask: cross-entropy of pixels near
    outlines, with the logits interpolated as they are at inference. dice: of each region present.
    pixel_text: the same cross-entropy at stride 8, without details. drawn: cross-entropy of the regions' mean
    embeddings over the names drawn for them. region, pairs: the distillation, of the same means and what the
    teacher's vectors become as names.
    """

    def __init__(self, model: DenseSegmenter, losses: LossOptions, autocast: torch.dtype | None = None) -> None:
        """`autocast`: type in which the network computes; losses are computed in float32."""
        super().__init__()
        self.model, self.losses, self.autocast = model, losses, autocast
        distilled = losses.region or losses.pairs
        zero = torch.zeros_like(model.names.void[0])  # names are centred by their projection already
        self.distiller = Distiller(zero, zero.clone()) if distilled else None

    def train(self, mode: bool = True) -> DenseObjective:  # noqa: FBT001, FBT002 - torch's signature
        """The backbone stays in eval mode: the statistics of its BatchNorms are ImageNet's, and stay."""
        super().train(mode)
        self.model.backbone.eval()
        return self

    def forward(
        self,
        batch: Batch,
        names: list[Tensor],
        regions: list[Regions],
        generators: Sequence[torch.Generator],
        own: Sequence[int] | None = None,
    ) -> Terms:
        """As `Objective.forward`."""
        with torch.autocast(batch.images.device.type, self.autocast, enabled=self.autocast is not None):
            features = self.model.features(batch.images)
        embeddings, details = (part.float() for part in features)
        zero = embeddings.new_zeros(())
        sums = {key: [zero, zero] for key in ("fine", "coarse", "mask", "dice", "drawn", "region", "pairs")}
        for index, members in batch.members().items():
            count = len(names[index]) if own is None else own[index]
            targets = [batch.targets[place] for place in members]
            vectors, targets = _fewer(names[index], count, targets, generators[members[0]])
            fine = self.model.name_logits((embeddings[members], details[members]), vectors)
            coarse = self.model.name_logits((embeddings[members], None), vectors)
            log = fine.log_softmax(1)
            _add(sums["fine"], place_loss(log, targets, count, self.losses.background))
            _add(sums["coarse"], place_loss(coarse.log_softmax(1), targets, count, self.losses.background))
            _add(sums["dice"], dice_loss(log, targets))
            if self.losses.mask:
                drawn_by = [generators[place] for place in members]
                _add(sums["mask"], outline_loss(fine, targets, count, self.losses, drawn_by))
        for place, known in enumerate(regions):
            if self.losses.drawn or self.distiller is not None:
                pooled, seen = region_means(embeddings[place], batch.targets[place])
                _add(sums["drawn"], self._drawn(pooled, seen, known))
                self._distil(sums, pooled, seen, known)
        fine, coarse, mask, dice, drawn, region, pairs = (
            total / shared_count(torch.as_tensor(weight, device=zero.device)) for total, weight in sums.values()
        )
        losses = self.losses
        total = losses.classification * fine + losses.dice * dice + losses.pixel_text * coarse + losses.drawn * drawn
        total = total + losses.mask * mask + losses.region * region + losses.pairs * pairs
        parts = (fine, mask, dice, coarse, drawn, region, pairs)
        return Terms(total, *(part.detach() for part in parts))

    def _drawn(self, pooled: Tensor, seen: Tensor, region: Regions) -> tuple[Tensor, Tensor]:
        """Cross-entropy of an image's regions over the names drawn for them and those of what it does not show."""
        if not self.losses.drawn or not len(pooled):
            return pooled.sum() * 0, seen.sum() * 0
        vectors = self.model.names(torch.cat((region.drawn, region.absent))[:, None])[0][:, 0]
        logits = pooled @ torch.cat((vectors, self.model.names.none()[0])).T
        loss = -logits.log_softmax(-1).diagonal()  # the column of a region's name is its index
        return (loss * seen).sum(), seen.sum()

    def _distil(self, sums: dict[str, list[Tensor]], pooled: Tensor, seen: Tensor, region: Regions) -> None:
        if self.distiller is None:
            return
        with torch.no_grad():  # the teacher must not come to meet the student
            teacher, text = (self.model.names(part[:, None])[0][:, 0] for part in (region.teacher, region.text))
            known = (region.teacher != 0).any(-1) & (seen > 0)
        every = torch.arange(len(pooled), device=pooled.device)
        projected = Regions(teacher * known[:, None], text, text, text)
        found = distill(self.distiller, nn.functional.normalize(pooled, dim=-1)[None], [(every, every)], [projected])
        _add(sums["region"], (found.region, seen.new_tensor(found.regions)))
        _add(sums["pairs"], (found.pairs, seen.new_tensor(found.pair_count)))


def region_means(embedding: Tensor, target: SegmentTarget) -> tuple[Tensor, Tensor]:
    """embedding (E, h, w) -> its mean over each segment (R, E), and 1 for those that are seen at this size, 0 for
    others."""
    masks = _segment_masks(target, embedding.shape[1:])
    area = masks.sum((1, 2))
    pooled = torch.einsum("ehw,rhw->re", embedding, masks) / area.clamp(min=1)[:, None]
    return pooled, (area > 0).to(pooled.dtype)


def place_loss(log: Tensor, targets: Sequence[SegmentTarget], own: int, background: float) -> tuple[Tensor, Tensor]:
    """Weighted sum of the places' cross-entropy and the sum of the weights.

    log (B, K + 1, h, w): logarithms of probabilities, the first `own` columns the dataset's classes, the last "none of
    the names".
    """
    labels = torch.stack([class_map(target, log.shape[2:]) for target in targets])
    flat = labels.clamp(min=0).flatten(1)
    areas = torch.zeros(len(labels), log.shape[1], device=log.device)
    areas.scatter_add_(1, flat, (labels >= 0).flatten(1).to(areas.dtype))
    areas = areas.clamp(min=_LEAST_AREA) / labels[0].numel()
    weight = areas.rsqrt().gather(1, flat).view(labels.shape) * (labels >= 0)
    picked = log.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    empty = (labels == BACKGROUND).to(log.dtype)
    other = log[:, own:].logsumexp(1)
    loss = -(weight * picked).sum() - background * (empty * other).sum()
    return loss, weight.sum() + background * empty.sum()


def outline_loss(
    logits: Tensor,
    targets: Sequence[SegmentTarget],
    own: int,
    options: LossOptions,
    generators: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the cross-entropy of `options.points` pixels an image near outlines, and the sum of the weights.

    logits (B, K + 1, h, w) as in `place_loss`, interpolated to the pixels of the targets; generators: one per image.
    """
    total, count = logits.new_zeros(()), logits.new_zeros(())
    for row, target, generator in zip(logits, targets, generators, strict=True):
        labels = class_map(target, target.segments.shape)
        near = near_outlines(labels).nonzero()
        if not len(near):
            continue
        chosen = torch.randint(len(near), (options.points,), generator=generator).to(near.device)
        y, x = near[chosen].unbind(1)
        height, width = labels.shape
        points = torch.stack(((x + 0.5) / width, (y + 0.5) / height), -1)
        log = sample_logits(row[None], points[None])[0].log_softmax(0)
        truth = labels[y, x]
        named = (truth >= 0).to(log.dtype)
        picked = log.gather(0, truth.clamp(min=0)[None])[0]
        others = log[own:].logsumexp(0)
        total = total - (named * picked + options.background * (1 - named) * others).sum()
        count = count + (named + options.background * (1 - named)).sum()
    return total, count


def near_outlines(labels: Tensor) -> Tensor:
    """(H, W) bool: labelled pixels within two pixels of a change from one label to another in a map (H, W)."""
    known = labels != UNLABELLED
    changes = torch.zeros_like(known)
    right = (labels[:, 1:] != labels[:, :-1]) & known[:, 1:] & known[:, :-1]
    below = (labels[1:] != labels[:-1]) & known[1:] & known[:-1]
    changes[:, 1:] |= right
    changes[1:] |= below
    for axis in (0, 1):  # a square around each change, one axis after the other
        once = changes.clone()
        for distance in range(1, _NEAR + 1):
            length = changes.shape[axis] - distance
            if length > 0:
                changes.narrow(axis, 0, length).logical_or_(once.narrow(axis, distance, length))
                changes.narrow(axis, distance, length).logical_or_(once.narrow(axis, 0, length))
    return changes & known


def dice_loss(log: Tensor, targets: Sequence[SegmentTarget]) -> tuple[Tensor, Tensor]:
    """Sum over the regions of 1 - dice of their class's probability among the known places, and how many there are.

    log (B, K + 1, h, w): logarithms of probabilities.
    """
    total, count = log.new_zeros(()), log.new_zeros(())
    for row, target in zip(log, targets, strict=True):
        if not len(target.classes):
            continue
        masks = _segment_masks(target, row.shape[1:])
        known = (class_map(target, row.shape[1:]) != -1).to(row.dtype)
        probability = row[target.classes].exp() * known
        dice = 1 - (2 * (probability * masks).sum((1, 2)) + 1) / (probability.sum((1, 2)) + masks.sum((1, 2)) + 1)
        seen = (masks.sum((1, 2)) > 0).to(row.dtype)
        total, count = total + (dice * seen).sum(), count + seen.sum()
    return total, count


def _segment_masks(target: SegmentTarget, size: Sequence[int]) -> Tensor:
    """(R, h, w) 0 or 1: where each segment of an image lies on a smaller map."""
    labels = class_map(target, size)
    return (labels[None] == target.classes[:, None, None]).float()


def _fewer(
    names: Tensor, own: int, targets: list[SegmentTarget], generator: torch.Generator
) -> tuple[Tensor, list[SegmentTarget]]:
    """The dataset's own names, and of the others those that the images show and a draw that a step can pay for.

    Returns the names and the targets in their numbers.
    """
    others = len(names) - own
    if others <= _MOST_OTHERS:
        return names, targets
    shown = sorted({number for target in targets for number in target.classes.tolist() if number >= own})
    drawn = [own + number for number in torch.randperm(others, generator=generator).tolist()]
    further = [number for number in drawn if number not in shown][: max(0, _MOST_OTHERS - len(shown))]
    kept = torch.tensor([*range(own), *shown, *further], device=names.device)
    table = torch.zeros(len(names), dtype=torch.int64, device=names.device)
    table[kept] = torch.arange(len(kept), device=names.device)
    return names[kept], [SegmentTarget(target.segments, table[target.classes]) for target in targets]


def _add(sums: list[Tensor], more: tuple[Tensor, Tensor]) -> None:
    sums[0], sums[1] = sums[0] + more[0], sums[1] + more[1]
