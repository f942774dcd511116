"""The parity check of a plain CLIP: the exported graph against the recipe, written out plainly in torch.

Windows are resized and averaged one by one here, and the softmax is torch's, so that an error in the graph's shortcuts
shows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...bundle.bundle import Bundle
from ...runtime.engines.engine import EngineOptions
from ...runtime.engines.onnx_runtime import OnnxSession
from ...runtime.vocabulary.text_encoder import TextEncoder as RuntimeText
from ...segmenter.clip_dense.model import ClipDense
from ...segmenter.text.encoder import TorchTextEncoder
from ..parity import (
    BACKGROUND,
    RANDOM,
    Floats,
    Parity,
    Tell,
    background_vectors,
    compare_segmenter,
    random_vocabularies,
    rgb,
)
from ..text_encoder.parity import compare_text

# Probabilities differ more than cosines: the softmax's factor is 40. An outlier at its threshold falls either way.
SCORES = 1e-3
_MOST = 2**27  # names times pixels of one vocabulary: half a gigabyte for each map over them
_PHOTOS = 4  # that the graph is compared on: a frame in windows is twenty times the work of the embedded model's
_ROWS = 32  # of pixels whose names are weighed at once


class ClipReference:
    """The recipe in torch; see `LabelReference`."""

    def __init__(self, model: ClipDense, size: tuple[int, int], photos: Sequence[npt.NDArray[np.uint8]]) -> None:
        self.photos = photos
        self._model, self._size = model, size
        self._scorer = model.scorer(size)
        self._vectors: dict[int, Tensor] = {}  # of each photo's windows, unit

    @torch.no_grad()
    def __call__(self, photo: int, vectors: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
        """Labels and confidence (1, H, W) of a photo under text vectors (K, S, D)."""
        pixels = self._model.normalise(rgb(self.photos[photo]))
        if photo not in self._vectors:
            crops = self._scorer.windows.crop(pixels)
            each = [self._scorer.encoder(crop[None])[0] for crop in crops]
            self._vectors[photo] = nn.functional.normalize(torch.stack(each), dim=-1)
        classes, names = vectors.shape[:2]
        text = torch.from_numpy(vectors).flatten(0, 1)
        cosines = self._merged(self._vectors[photo] @ nn.functional.normalize(text, dim=-1).T)
        if self._scorer.refine is not None:
            stride = self._size[0] // len(self._scorer.merge.rows)
            small = nn.functional.avg_pool2d(cosines, stride).permute(1, 2, 0)
            cosines = self._scorer.refine(small, pixels[0].permute(1, 2, 0)).permute(2, 0, 1)
        missing = (text == 0).all(-1)
        labels, confidence = [], []
        for start in range(0, cosines.shape[1], _ROWS):
            logits = self._model.config.temperature * cosines[:, start : start + _ROWS]
            logits[missing] = -1e4
            each_class = logits.softmax(0).reshape(classes, names, *logits.shape[1:]).amax(1)
            best = each_class.max(0)
            labels.append(best.indices)
            confidence.append(best.values)
        return torch.cat(labels)[None].numpy(), torch.cat(confidence)[None].numpy()

    def _merged(self, maps: Tensor) -> Tensor:
        """(windows, P, N) -> (N, H, W): each resized to its window, averaged where they overlap."""
        grid, names = self._scorer.windows, maps.shape[2]
        height, width = grid.window
        total = torch.zeros(names, *self._size)
        covered = torch.zeros(self._size)
        places = [(top, left) for top in grid.tops for left in grid.lefts]
        for (top, left), patches in zip(places, maps, strict=True):
            small = patches.T.reshape(1, names, *self._scorer.merge.patches)
            full = nn.functional.interpolate(small, size=grid.window, mode="bilinear", align_corners=False)[0]
            total[:, top : top + height, left : left + width] += full
            covered[top : top + height, left : left + width] += 1
        return total.div_(covered)


def measure_clip(
    model: ClipDense,
    encoder: TorchTextEncoder,
    bundle: Bundle,
    photos: Sequence[npt.NDArray[np.uint8]],
    tell: Tell,
) -> Parity:
    """Run the bundle with the runtime's code and `model` in torch; photos are uint8 (1, H, W, 3) BGR."""
    size, most = bundle.manifest.input_size, bundle.manifest.graph.max_classes
    with tempfile.TemporaryDirectory() as folder:
        runtime = RuntimeText(bundle, cache_folder=Path(folder))
        tell("text encoder")
        text = compare_text(encoder, runtime, bundle)
        background = background_vectors(bundle, runtime, most)
    affordable = _MOST // (size[0] * size[1])
    vocabularies = [
        (RANDOM, vectors[: max(1, affordable // vectors.shape[1])])
        for vectors in random_vocabularies(size, most, model.config.text.dim)
    ]
    if background is not None:
        vocabularies.append((BACKGROUND, background))
    with OnnxSession(bundle, EngineOptions(provider="cpu")) as session:
        reference = ClipReference(model, size, photos[:_PHOTOS])
        rows = compare_segmenter(reference, session.run, vocabularies, tell, most_photos=1)
    return Parity(
        photos=len(reference.photos), segmenter=rows, formulations=None, exact_fast=None, text=text, scores_bar=SCORES
    )
