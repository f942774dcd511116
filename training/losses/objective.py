"""What one step computes: the model, the parts that exist in training only, and all losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...segmenter.model import SegmenterModel
from ...segmenter.query_decoder import QueryState
from ..distillation.distill import Distiller, Regions, distill
from ..distributed import shared_count
from ..photos.batches import Batch
from .losses import LossOptions, PixelTextHead, SetLoss, classification_loss, set_loss


@dataclass(frozen=True)
class Terms:
    """The loss, and its terms before weighting: those of the last decoder depth, scalars without gradient."""

    total: Tensor  # scalar, of all depths
    classification: Tensor
    mask: Tensor
    dice: Tensor
    pixel_text: Tensor
    drawn: Tensor
    region: Tensor
    pairs: Tensor


class Objective(nn.Module):
    """Everything that is trained, in one module: what DistributedDataParallel wraps."""

    def __init__(
        self,
        model: SegmenterModel,
        losses: LossOptions,
        autocast: torch.dtype | None = None,
        means: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """`autocast`: type in which the network computes; losses are computed in float32. `means`: of the names and of
        the teacher's vectors, (D,) each, which a centred distillation takes off."""
        super().__init__()
        self.model, self.losses, self.autocast = model, losses, autocast
        config, dim = model.config.pixel_decoder, model.config.text.dim
        self.heads = nn.ModuleList()
        if losses.pixel_text:
            self.heads.extend(PixelTextHead(channels, dim) for channels in (config.channels, config.mask_channels))
        self.distiller = Distiller(*(means or (torch.zeros(dim),) * 2)) if losses.region or losses.pairs else None

    def train(self, mode: bool = True) -> Objective:  # noqa: FBT001, FBT002 - torch's signature
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
        """names: per dataset (K, S, D); regions: per image; generators: one per image; own: per dataset how many of its
        names are its classes, the others being names of other datasets; all by default."""
        own = [len(vectors) for vectors in names] if own is None else own
        with torch.autocast(batch.images.device.type, self.autocast, enabled=self.autocast is not None):
            mask_features, levels = self.model.features(batch.images)
            states = self.model.query_decoder(mask_features, levels)
            pixel_text = mask_features.new_zeros((), dtype=torch.float32)
            for head, features in zip(self.heads, (levels[-1], mask_features), strict=False):
                pixel_text = pixel_text + self._pixel_text(head, features, batch, names, own)
        total = self.losses.pixel_text * pixel_text
        zero = pixel_text.new_zeros(())
        drawn = region = pairs = zero
        for depth, state in enumerate(states):
            state = QueryState(state.embedding.float(), state.mask_logits.float())
            embedding = self.model.embed(state, depth)
            terms = self._set_loss(embedding, state, batch, names, generators, own)
            drawn = self._drawn(embedding, terms, regions) if self.losses.drawn else zero
            if self.distiller is not None:
                sums = distill(self.distiller, embedding, terms.matches, regions)
                region = sums.region / shared_count(torch.tensor(sums.regions, device=zero.device))
                pairs = sums.pairs / shared_count(torch.tensor(sums.pair_count, device=zero.device))
            total = total + terms.total(self.losses)
            total = total + self.losses.drawn * drawn + self.losses.region * region + self.losses.pairs * pairs
        parts = (terms.classification, terms.mask, terms.dice, pixel_text, drawn, region, pairs)
        return Terms(total, *(part.detach() for part in parts))

    def _set_loss(
        self,
        embedding: Tensor,
        state: QueryState,
        batch: Batch,
        names: list[Tensor],
        generators: Sequence[torch.Generator],
        own: Sequence[int],
    ) -> SetLoss:
        # The images of one dataset are classified together.
        logits: list[Tensor] = [embedding] * len(batch.dataset)
        for index, members in batch.members().items():
            for place, row in zip(members, self.model.classify(embedding[members], names[index]), strict=True):
                logits[place] = row
        classes = [own[index] for index in batch.dataset]
        return set_loss(logits, state.mask_logits, batch.targets, self.losses, generators, classes)

    def _drawn(self, embedding: Tensor, terms: SetLoss, regions: list[Regions]) -> Tensor:
        """Classification of the queries over the names drawn for their own image, and "no object"."""
        logits = [
            self.model.classify(embedding[index : index + 1], torch.cat((region.drawn, region.absent))[:, None])[0]
            for index, region in enumerate(regions)
        ]
        wanted = [segments for _, segments in terms.matches]  # the column of a segment is its index
        return classification_loss(logits, terms.matches, wanted, terms.covers, self.losses.no_object)

    def _pixel_text(
        self, head: nn.Module, features: Tensor, batch: Batch, names: list[Tensor], own: Sequence[int]
    ) -> Tensor:
        """Mean cross-entropy of the labelled and the background pixels against the first name of every class."""
        total, count = features.new_zeros((), dtype=torch.float32), 0
        for index, members in batch.members().items():
            targets = [batch.targets[i] for i in members]
            summed, weight = head(features[members], names[index][:, 0], targets, own[index], self.losses.background)
            total, count = total + summed, count + weight
        return total / shared_count(torch.as_tensor(count, device=total.device))
