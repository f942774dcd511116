"""Options of an export from plain CLIP weights."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from ...bundle.errors import UsageError
from ...segmenter.clip_dense.background import BACKGROUND_NAMES, THRESHOLD
from ...segmenter.clip_dense.config import WINDOW, DenseRecipe, ScoreRefinement
from ..options import MAX_CLASSES, MAX_SIDE, TextPrecision, Weights

_LEAST = 2  # patches along a side: a patch is described by its neighbours
SIZE = (336, 448)  # height, width: the short side that both recipes publish their numbers for


@dataclass(frozen=True)
class ClipExportRequest:
    """What was asked for."""

    size: tuple[int, int] | None = None  # height, width of the input in pixels; None: `SIZE`, as near as patches allow
    recipe: DenseRecipe = DenseRecipe.sc_clip  # how the last block is computed
    windows: bool = True  # sliding windows; False: one pass over the whole image
    refinement: ScoreRefinement = ScoreRefinement.none  # of the scores by the image
    temperature: float = 40.0  # factor of the cosine before the softmax over the names
    threshold: float = THRESHOLD  # least confidence of a labelled pixel, unless the user says otherwise
    background: tuple[tuple[str, ...], ...] = BACKGROUND_NAMES  # each class with its names
    max_classes: int = 512  # largest K
    weights: Weights = "fp32"  # type in which the segmenter's weights are stored
    text_precision: TextPrecision = "fp32"  # type in which the text encoder's matrices are stored
    images: Path | None = None  # folder of photos for the parity check; None: those of scikit-image

    def __post_init__(self) -> None:
        """What can be told without the model, so that a mistake costs no download. Raises `UsageError`."""
        if not 1 <= self.max_classes <= MAX_CLASSES:
            raise UsageError(f"--max-classes is {self.max_classes}, expected 1 to {MAX_CLASSES}")
        if not 0 < self.temperature <= 1000:
            raise UsageError(
                f"--temperature is {self.temperature:g}, expected a factor such as 40, above 0 and up to 1000"
            )
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"the threshold is {self.threshold:g}, expected a confidence from 0 to 1")

    def decided(self, patch: int) -> ClipExportRequest:
        """With a size, for a model with patches of so many pixels; raises `UsageError` for what it cannot do.

        Windows of 224 pixels are whole patches wherever they lie. A side that one window covers must be, too.
        """

        def fits(side: int) -> bool:
            return (self.windows and side >= WINDOW and WINDOW % patch == 0) or side % patch == 0

        least = _LEAST * patch
        size = self.size or tuple(side if fits(side) else -(-side // patch) * patch for side in SIZE)
        for side in size:
            if not fits(side) or not least <= side <= MAX_SIDE:
                raise UsageError(
                    f"--size is {size[1]}x{size[0]} (width x height), both sides must be multiples of the model's patch, "
                    f"{patch} pixels, from {least} to {MAX_SIDE}; "
                    f"{min(max(round(side / patch), _LEAST) * patch, MAX_SIDE // patch * patch)} is the nearest to {side}"
                )
        return dataclasses.replace(self, size=(size[0], size[1]))
