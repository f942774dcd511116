"""A dense CLIP as the graph a device runs: camera pixels and text vectors in, labels and confidence out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...segmenter.clip_dense.model import ClipDense
from ..graph import swapped_colours


class ClipDenseGraph(nn.Module):
    """The graph contract around a dense CLIP for inputs of one size.

    image uint8 (1, H, W, 3) BGR and text_embeddings float32 (K, S, D) become labels (1, H, W), int32 or uint8, and
    confidence float32 (1, H, W) in 0..1: the softmax over all names, of the winning class's best name.
    """

    def __init__(
        self, model: ClipDense, size: tuple[int, int], label_dtype: torch.dtype, *, regions: bool = False
    ) -> None:
        super().__init__()
        self.model, self.label_dtype, self.regions = model, label_dtype, regions
        self.scorer = model.scorer(size)
        self.reads_bgr = False  # see `clip_bgr_input`

    def forward(self, image: Tensor, text_embeddings: Tensor) -> tuple[Tensor, ...]:
        """See the class; with `regions`, the patches' unit vectors (windows, P, D) follow."""
        pixels = image.to(torch.float32).permute(0, 3, 1, 2)
        pixels = self.model.normalise(pixels if self.reads_bgr else pixels.flip(1))
        labels, confidence, vectors = self.scorer(pixels, text_embeddings)
        result: tuple[Tensor, ...] = (labels[None].to(self.label_dtype), confidence[None])
        return (*result, vectors) if self.regions else result


@contextmanager
def clip_bgr_input(graph: ClipDenseGraph) -> Iterator[None]:
    """Within the block the normalisation and the first convolution take BGR, so that no colours need to be swapped."""
    model = graph.model
    with swapped_colours(graph, [model.vision.conv1.weight, model.pixel_mean, model.pixel_std]):
        yield
