"""The segmenter as a device runs it: camera pixels and text vectors in, labels and confidence out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from ..segmenter.dense import DenseSegmenter
from ..segmenter.model import ImageModel
from .options import Masks

_CERTAIN = 40.0  # a mask logit whose sigmoid is 1 in FP32


class SegmenterGraph(nn.Module):
    """A model with the inputs and outputs of an exported graph.

    image uint8 (1, H, W, 3) BGR and text_embeddings float32 (K, S, D) become labels (1, H, W), int32 or uint8, and
    confidence float32 (1, H, W) in 0..1: the winner's score over the sum of all scores, or over 1 if the sum is less.

    A model without queries may take several images at once, each with its own text vectors: image (N, H, W, 3) and
    text_embeddings (N, K, S, D) become labels and confidence (N, H, W).

    `exact` upsamples every query's mask, then sums over queries and takes the argmax, as the published inference does.
    `fast` sums at stride 4 and upsamples the class scores: far less work with more queries than classes.
    """

    def __init__(
        self,
        model: ImageModel,
        masks: Masks,
        depth: int,
        label_dtype: torch.dtype,
        *,
        raw: bool = False,
        regions: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.masks, self.depth, self.label_dtype, self.raw = model, masks, depth, label_dtype, raw
        self.regions = regions
        self.reads_bgr = False  # see `bgr_input`

    def forward(self, image: Tensor, text_embeddings: Tensor) -> tuple[Tensor, ...]:
        """See the class; with `raw`, mask_logits (1, Q, H/4, W/4) and class_logits (1, Q, K + 1) follow.

        With `regions` follows what tells the vector of a region: of a model without queries the places' embeddings, of
        another the queries' vectors, and their masks unless they stand there already.
        """
        size = (int(image.shape[1]), int(image.shape[2]))
        pixels = image.to(torch.float32).permute(0, 3, 1, 2)
        pixels = pixels if self.reads_bgr else pixels.flip(1)
        if isinstance(self.model, DenseSegmenter):
            features = self.model.features(pixels)
            exact = self.masks == "exact"
            if text_embeddings.ndim == 4:
                each = [
                    self.model.label((coarse[None], fine[None]), vectors, size, exact=exact)
                    for coarse, fine, vectors in zip(*features, text_embeddings, strict=True)
                ]
                labels, confidence = (torch.cat(maps) for maps in zip(*each, strict=True))
                return labels.to(self.label_dtype), confidence
            labels, confidence = self.model.label(features, text_embeddings, size, exact=exact)
            labels = labels.to(self.label_dtype)
            return (labels, confidence, features[0]) if self.regions else (labels, confidence)
        output = self.model(pixels, text_embeddings, self.depth)
        nameless = (text_embeddings.abs().amax((1, 2)) == 0).to(torch.float32)
        scores, total = self._scores(output.class_logits, output.mask_logits, nameless, size)
        labels = scores.argmax(-1)
        confidence = scores.amax(-1).clamp(min=0) / total[:, 0].clamp(min=1)
        result: tuple[Tensor, ...] = (labels.to(self.label_dtype), confidence)
        if self.raw:
            result = (*result, output.mask_logits, output.class_logits)
        if self.regions:
            result = (*result, *output.vectors, *(() if self.raw else (output.mask_logits,)))
        return result

    def _scores(
        self, class_logits: Tensor, mask_logits: Tensor, nameless: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Class scores (1, H, W, K), -1 where `nameless` (K) is 1, and their sum (1, 1, H, W) over the other classes.

        Classes are the last axis, so that the argmax runs along memory: four times as fast on a CPU.

        A nameless class scores 0, and all others may score 0, too; 1 is subtracted so that it cannot win that tie. At
        full size a pass over the scores would cost far more than the product that makes them, so one more query, whose
        mask is 1 everywhere, subtracts it there. The sum is taken over the queries' probabilities, not over the maps.
        """
        probability = class_logits.softmax(-1)[..., :-1]  # (1, Q, K)
        summed = probability.sum(-1)[:, None]  # (1, 1, Q)
        if self.masks == "exact":
            sure = nn.functional.pad(mask_logits, (0, 0, 0, 0, 0, 1), value=_CERTAIN)
            masks = _upsample(sure, size).sigmoid().flatten(2)
            share = torch.cat((probability, -nameless[None, None]), 1)
            scores, total = masks.transpose(1, 2) @ share, nn.functional.pad(summed, (0, 1)) @ masks
            return scores.view(1, *size, -1), total.view(1, 1, *size)
        masks = mask_logits.sigmoid().flatten(2)
        coarse = (int(mask_logits.shape[2]), int(mask_logits.shape[3]))
        scores, total = masks.transpose(1, 2) @ probability - nameless, summed @ masks
        return _upsample_last(scores.view(1, *coarse, -1), size), _upsample(total.view(1, 1, *coarse), size)


class ReadsBgr(Protocol):
    """A graph whose pixels may come in either order of colours."""

    reads_bgr: bool


@contextmanager
def swapped_colours(graph: ReadsBgr, tensors: Sequence[Tensor]) -> Iterator[None]:
    """Within the block the weights that meet the pixels, whose axis 1 is the colours, take BGR instead of RGB."""
    originals = [tensor.data for tensor in tensors]
    for tensor in tensors:
        tensor.data = tensor.data.flip(1)
    graph.reads_bgr = True
    try:
        yield
    finally:
        graph.reads_bgr = False
        for tensor, data in zip(tensors, originals, strict=True):
            tensor.data = data


@contextmanager
def bgr_input(graph: SegmenterGraph) -> Iterator[None]:
    """Within the block the normalisation and the first convolution take BGR, so that no colours need to be swapped."""
    model = graph.model
    first = next(part for part in model.backbone.modules() if isinstance(part, nn.Conv2d))
    with swapped_colours(graph, [first.weight, model.pixel_mean, model.pixel_std]):
        yield


def _upsample_last(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w, C) -> (B, H, W, C)."""
    return _upsample(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def _upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
