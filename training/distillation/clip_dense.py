"""A plain CLIP's dense features for training: vectors of regions, and labels for pixels that have none.

A user with CLIP weights trains a small, fast model of their own from them: regions are distilled (`--teacher`), and
photos without masks are labelled (`--pseudo`), both named `clip-dense:SOURCE`, with SOURCE as `ovs-export --clip`
takes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...bundle.metrics import IGNORE
from ...data.datasets import TrainingSample
from ...segmenter.clip_dense.background import BACKGROUND_NAMES
from ...segmenter.clip_dense.model import ClipDenseScorer
from ...segmenter.clip_dense.weights import ClipSource, ClipWeights, read_clip
from ...segmenter.clip_dense.windows import WindowMerge
from ...segmenter.config import CLIP_TEMPLATES
from ...segmenter.layouts.name_vectors import name_vectors
from ...segmenter.text.encoder import TorchTextEncoder
from .regions import LEAST_PIXELS

PREFIX = "clip-dense:"
_SHORT, _LONG = 336, 448  # sides of the pictures that it sees, rounded to its patches
_STRIDE = 8  # pixels of such a picture to one place of a map of probabilities
_SHARPNESS = 100.0  # factor of a cosine in CLIP's own training
_LIKELIEST = 10  # names that a region's vector is mixed from


class ClipDenseFeatures:
    """The recipe on photos of any size."""

    def __init__(self, weights: ClipWeights, device: torch.device) -> None:
        self.model = weights.model().to(device)
        self.device = device
        # Nine prompts in place of eighty: within noise of them, and thousands of names are encoded in a minute.
        self._text = dataclasses.replace(weights.text, templates=CLIP_TEMPLATES)
        self._text_state, self._origin = weights.text_state, weights.origin
        self._scorers: dict[tuple[int, int], ClipDenseScorer] = {}

    def encode(self, names: Sequence[str]) -> Tensor:
        """Unit vectors (N, D) of names by CLIP's text tower."""
        return name_vectors(self._text, self._text_state, names, self._origin).to(self.device)

    @torch.no_grad()
    def windows(self, photo: npt.NDArray[np.uint8]) -> tuple[ClipDenseScorer, Tensor]:
        """BGR (H, W, 3) -> what knows where the windows lie, unit vectors (windows, P, D)."""
        size = self._size(photo.shape[0], photo.shape[1])
        if size not in self._scorers:
            self._scorers[size] = self.model.scorer(size).to(self.device)
        scorer = self._scorers[size]
        small = cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA)
        image = torch.from_numpy(np.ascontiguousarray(small[..., ::-1])).permute(2, 0, 1)[None].float()
        pixels = self.model.normalise(image.to(self.device))
        return scorer, nn.functional.normalize(scorer.encoder(scorer.windows.crop(pixels)), dim=-1)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """Height, width of the picture it sees: landscape, square or portrait, whichever is nearest."""
        patch = self.model.config.vision.patch
        short, long = (side // patch * patch for side in (_SHORT, _LONG))
        if max(height, width) * 7 < min(height, width) * 8:
            return short, short
        return (short, long) if width > height else (long, short)


class ClipDenseTeacher:
    """Vectors of regions: the mean of the dense features under each class's pixels.

    A model that uses the text tower of the same CLIP takes them as they are. For any other, a region is told
    in words: the mean of the likeliest names' vectors in the model's own space, by probability (Norouzi et al. 2014,
    ConSE).
    """

    size = _SHORT

    def __init__(self, features: ClipDenseFeatures, digest: str, names: tuple[Tensor, Tensor] | None) -> None:
        """`names`: the same names' unit vectors in CLIP's space (N, D) and in the model's (N, E); None: one space."""
        self._features, self._names = features, names
        self.dim = features.model.config.vision.dim if names is None else names[1].shape[1]
        space = b"" if names is None else names[1].cpu().contiguous().numpy().tobytes()
        self.digest = hashlib.sha256(f"clip-dense {digest}".encode() + space).hexdigest()

    @torch.no_grad()
    def regions(self, sample: TrainingSample) -> Iterator[tuple[int, npt.NDArray[np.float16]]]:
        """Class index and unit vector (D,) of every class in the photo."""
        present, counts = np.unique(sample.labels, return_counts=True)
        classes = [
            index
            for index, count in zip(present.tolist(), counts.tolist(), strict=True)
            if index != IGNORE and count >= LEAST_PIXELS
        ]
        if not classes:
            return
        scorer, vectors = self._features.windows(sample.image)
        size = scorer.windows.size[::-1]
        labels = cv2.resize(sample.labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
        masks = torch.from_numpy(np.stack([labels == index for index in classes])).float()[None]
        patch = self._features.model.config.vision.patch
        shares = nn.functional.avg_pool2d(scorer.windows.crop(masks), patch).flatten(2)  # (windows, classes, P)
        pooled = torch.einsum("wcp,wpd->cd", shares.to(vectors.device), vectors)
        for index, vector in zip(classes, self._told(pooled), strict=True):
            if bool(vector.any()):
                yield index, vector.cpu().numpy().astype(np.float16)

    def _told(self, pooled: Tensor) -> Tensor:
        """Vectors (T, D) in CLIP's space -> unit vectors in the model's."""
        if self._names is None:
            return nn.functional.normalize(pooled, dim=-1)
        clip, own = self._names
        likeliest, index = (_SHARPNESS * nn.functional.normalize(pooled, dim=-1) @ clip.T).softmax(-1).topk(_LIKELIEST)
        mixed = nn.functional.normalize((likeliest[..., None] * own[index]).sum(1), dim=-1)
        return mixed * pooled.any(-1, keepdim=True)  # a region that no patch shows is told by nothing


class ClipDenseLabels:
    """Probabilities of names at the places of a photo, for pseudo-labels; background names stand for "none of them"."""

    def __init__(self, features: ClipDenseFeatures) -> None:
        self._features = features
        self._background = features.encode([name for entry in BACKGROUND_NAMES for name in entry])

    def vectors(self, names: Sequence[str]) -> Tensor:
        """Unit vectors (K, 1, D), behind them those of the background names that are none of `names`."""
        given = {name.casefold() for name in names}
        everything = [name for entry in BACKGROUND_NAMES for name in entry]
        kept = [index for index, name in enumerate(everything) if name not in given]
        self._count = len(names)
        return torch.cat((self._features.encode(names), self._background[kept]))[:, None]

    @torch.no_grad()
    def probabilities(self, photo: npt.NDArray[np.uint8], vectors: Tensor) -> npt.NDArray[np.float32]:
        """BGR (H, W, 3), what `vectors` gave for K names -> (K + 1, h, w), the last "none of them"."""
        scorer, patches = self._features.windows(photo)
        merge = WindowMerge(scorer.windows, self._features.model.config.vision.patch, _STRIDE).to(patches.device)
        chances = merge(_SHARPNESS * patches @ vectors[:, 0].T).softmax(-1).permute(2, 0, 1)
        found = torch.cat((chances[: self._count], chances[self._count :].sum(0, keepdim=True)))
        return np.asarray(found.cpu().numpy(), np.float32)


def clip_dense_teacher(
    name: str, encoder: TorchTextEncoder, words: Sequence[str], device: torch.device
) -> ClipDenseTeacher:
    """The teacher `name`, clip-dense:SOURCE, for a model that uses the text encoder `encoder`.

    `words` describe regions to an encoder of another space.

    Raises `UsageError`, `CheckpointError`.
    """
    weights = read_clip(ClipSource.parse(name.removeprefix(PREFIX)))
    features = ClipDenseFeatures(weights, device)
    names = None
    if encoder.config.kind != "clip" or encoder.config.dim != weights.text.dim:
        names = features.encode(words), encoder.encode(words).to(device)
    return ClipDenseTeacher(features, weights.digest(), names)


def clip_dense_labels(name: str, device: torch.device) -> tuple[ClipDenseLabels, str]:
    """What labels photos by `name`, clip-dense:SOURCE, and the digest of its weights. Raises `UsageError`,
    `CheckpointError`."""
    weights = read_clip(ClipSource.parse(name.removeprefix(PREFIX)))
    return ClipDenseLabels(ClipDenseFeatures(weights, device)), weights.digest()
