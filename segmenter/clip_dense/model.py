"""Dense CLIP: an image and text vectors in, a cosine for every pixel and name out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...bundle.errors import UsageError
from .config import PIXEL_MEAN, PIXEL_STD, STEP, WINDOW, ClipDenseConfig, DenseRecipe
from .recipes import NaclipHead, ScClipHead
from .refinement import refinement, score_stride
from .vision import VisionTransformer
from .windows import WindowGrid, WindowMerge

NO_NAME = -1e4  # logit of a padded name: no probability in any precision


class ClipDenseEncoder(nn.Module):
    """Pixels of one size to a vector for every patch."""

    positions: Tensor  # (1 + P, C)

    def __init__(self, vision: VisionTransformer, recipe: DenseRecipe, size: tuple[int, int]) -> None:
        super().__init__()
        patch = vision.config.patch
        grid = (size[0] // patch, size[1] // patch)
        self.vision = vision
        head = NaclipHead if recipe is DenseRecipe.naclip else ScClipHead
        self.head = head(vision.last, grid)
        with torch.no_grad():
            self.register_buffer("positions", vision.positions(grid).clone(), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised RGB (B, 3, h, w) -> vectors (B, P, D) in the text space, of any length, row by row."""
        levels = self.vision.levels(self.vision.embed(pixels, self.positions))
        return self.vision.project(self.head(levels))


class ClipDenseScorer(nn.Module):
    """The whole function for images of one size.

    What decides between names (cosines, means over windows, softmax) stands in this module itself: an FP16 graph keeps
    it in FP32.
    """

    def __init__(self, model: ClipDense, size: tuple[int, int]) -> None:
        super().__init__()
        config = model.config
        self.temperature = config.temperature
        self.windows = WindowGrid.sliding(size, WINDOW, STEP) if config.windows else WindowGrid.whole(size)
        if any(side % config.vision.patch for side in self.windows.window):
            raise UsageError(
                f"an input of {size[1]}x{size[0]} has windows of {self.windows.window[1]}x{self.windows.window[0]}, "
                f"expected multiples of {config.vision.patch} pixels; resize it"
            )
        self.encoder = ClipDenseEncoder(model.vision, config.recipe, self.windows.window)
        self.merge = WindowMerge(self.windows, config.vision.patch, score_stride(config.refinement, size))
        self.refine = refinement(config.refinement)

    def forward(self, pixels: Tensor, text_embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised RGB (1, 3, H, W), text vectors (K, S, D) -> labels int64 and confidence of 0..1, (H, W) each.

        The confidence is the softmax over all names, of the winning class's best name. A zero row is no name. Third are
        the patches' unit vectors (windows, P, D).
        """
        classes, names, dim = text_embeddings.shape
        text = text_embeddings.reshape(classes * names, dim)
        absent = (text.abs().amax(-1) == 0).to(text.dtype) * NO_NAME
        # What follows is linear in the scores, and its weights add up to 1: factor and bias cost less on patches.
        vectors = self._vectors(pixels)
        logits = self._at_full_size(self.temperature * _cosines(vectors, text) + absent, pixels)
        best = logits.reshape(*logits.shape[:2], classes, names).amax(-1)  # of each class, (H, W, K)
        winner = best.amax(-1)
        # The winner's own exponential is 1, so its share of the softmax is one over the sum.
        return best.argmax(-1), 1 / (logits - winner[..., None]).exp().sum(-1), vectors

    def cosines(self, pixels: Tensor, text_embeddings: Tensor) -> Tensor:
        """Normalised RGB (1, 3, H, W), text vectors (N, D) -> cosines (H, W, N); 0 for a zero row."""
        return self._at_full_size(_cosines(self._vectors(pixels), text_embeddings), pixels)

    def _vectors(self, pixels: Tensor) -> Tensor:
        """-> unit vectors (windows, P, D)."""
        return nn.functional.normalize(self.encoder(self.windows.crop(pixels)), dim=-1)

    def _at_full_size(self, scores: Tensor, pixels: Tensor) -> Tensor:
        """(windows, P, N) -> (H, W, N)."""
        full: Tensor = self.merge(scores)
        if self.refine is not None:
            full = self.refine(full, pixels[0].permute(1, 2, 0))
        return full


def _cosines(vectors: Tensor, text_embeddings: Tensor) -> Tensor:
    """Unit vectors (windows, P, D), text vectors (N, D) -> cosines (windows, P, N); 0 for a zero row."""
    length = text_embeddings.norm(dim=-1, keepdim=True)
    unit = text_embeddings / length.clamp(min=1e-6)
    cosines: Tensor = vectors @ unit.T
    return cosines


class ClipDense(nn.Module):
    """A CLIP vision transformer as a segmenter; the text tower is `config.text`'s and is kept apart."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: ClipDenseConfig, vision: VisionTransformer | None = None) -> None:
        """`vision` of the config; None makes one with random weights. Raises `UsageError` for too few blocks."""
        super().__init__()
        if config.recipe is DenseRecipe.sc_clip and config.vision.layers < ScClipHead.BLOCKS:
            raise UsageError(
                f"sc-clip needs a vision transformer of at least {ScClipHead.BLOCKS} blocks, {config.name} has "
                f"{config.vision.layers}; choose --dense naclip"
            )
        self.config = config
        self.vision = VisionTransformer(config.vision) if vision is None else vision
        self.register_buffer("pixel_mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False)

    def normalise(self, image: Tensor) -> Tensor:
        """RGB (B, 3, H, W) float 0..255 -> zero mean, unit variance."""
        return (image - self.pixel_mean) / self.pixel_std

    def scorer(self, size: tuple[int, int]) -> ClipDenseScorer:
        """The function for images of `size` (height, width). Raises `UsageError` for windows that no patches fill."""
        return ClipDenseScorer(self, size).eval()

    def forward(self, image: Tensor, text_embeddings: Tensor) -> Tensor:
        """RGB (1, 3, H, W) float 0..255, text vectors (N, D) -> cosines (H, W, N)."""
        size = (int(image.shape[2]), int(image.shape[3]))
        return self.scorer(size).cosines(self.normalise(image), text_embeddings)
