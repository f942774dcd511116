"""The segmenter as the graph a device runs: camera pixels and text vectors in, labels and confidence out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ovs_edge.segmenter.segmenter import Segmenter, semantic_scores

Masks = Literal["exact", "fast"]


class SegmenterGraph(nn.Module):
    """The graph contract around a `Segmenter`.

    image uint8 (1, H, W, 3) BGR and text_embeddings float32 (K, S, D) become labels (1, H, W), int32 or uint8, and
    confidence float32 (1, H, W) in 0..1: the winner's score over the sum of all scores, or over 1 where the sum is less.

    `exact` upsamples every query's mask, then sums and takes the argmax, as the published inference does. `fast` sums
    at stride 4 and upsamples the class scores: far less work when queries outnumber classes.
    """

    def __init__(self, model: Segmenter, masks: Masks, depth: int, label_dtype: torch.dtype, raw: bool = False) -> None:
        super().__init__()
        self.model, self.masks, self.depth, self.label_dtype, self.raw = model, masks, depth, label_dtype, raw

    def forward(self, image: Tensor, text_embeddings: Tensor) -> tuple[Tensor, ...]:
        """See the class; with `raw`, mask_logits (1, Q, H/4, W/4) and class_logits (1, Q, K + 1) follow."""
        size = (int(image.shape[1]), int(image.shape[2]))
        rgb = image.to(torch.float32).permute(0, 3, 1, 2).flip(1)
        output = self.model(rgb, text_embeddings, self.depth)
        scores = self._scores(output.class_logits, output.mask_logits, size)
        # A class without a name scores exactly 0; -1 keeps it from winning a tie of zeros.
        missing = (text_embeddings.abs().sum((1, 2)) == 0).to(scores.dtype)
        best, labels = (scores - missing[None, :, None, None]).max(1)
        confidence = best / scores.sum(1).clamp(min=1)
        result: tuple[Tensor, ...] = (labels.to(self.label_dtype), confidence)
        return (*result, output.mask_logits, output.class_logits) if self.raw else result

    def _scores(self, class_logits: Tensor, mask_logits: Tensor, size: tuple[int, int]) -> Tensor:
        if self.masks == "exact":
            return semantic_scores(class_logits, _upsample(mask_logits, size))
        return _upsample(semantic_scores(class_logits, mask_logits), size)


def _upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
