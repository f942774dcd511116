"""What a dense CLIP is made of: the vision transformer, the recipe of its last block, and how scores become classes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..config import TextConfig

# Mean and standard deviation of each channel, RGB, of values 0..255: CLIP's own, rounded as both recipes publish them.
PIXEL_MEAN = (122.771, 116.746, 104.094)
PIXEL_STD = (68.501, 66.632, 70.323)

WINDOW = 224  # side of a window in pixels, the size that these models were trained at
STEP = 112  # pixels from one window to the next


class DenseRecipe(str, Enum):
    """How the last block is computed."""

    naclip = "naclip"  # Hajimiri et al., WACV 2025
    sc_clip = "sc-clip"  # Bai et al., 2024


class ScoreRefinement(str, Enum):
    """What the image does to the scores once they have its size."""

    none = "none"  # bilinear, as both recipes publish their numbers without post-processing
    pamr = "pamr"  # Araslanov and Roth, CVPR 2020
    guided = "guided"  # He and Sun, "Fast Guided Filter", 2015


@dataclass(frozen=True)
class ClipVisionConfig:
    """CLIP's vision transformer (Radford et al. 2021)."""

    patch: int  # side of a patch in pixels
    width: int  # channels of a token
    layers: int  # transformer blocks
    heads: int
    dim: int  # D, of the projected vectors
    grid: int  # side of the position grid in patches
    quick_gelu: bool  # x * sigmoid(1.702 x), as OpenAI trained its models


@dataclass(frozen=True)
class ClipDenseConfig:
    """A whole model."""

    name: str  # open_clip's name of the architecture where it has one: ViT-B-16
    vision: ClipVisionConfig
    text: TextConfig
    recipe: DenseRecipe = DenseRecipe.sc_clip
    windows: bool = True  # False: one pass over the whole image
    refinement: ScoreRefinement = ScoreRefinement.none
    temperature: float = 40.0  # factor of the cosine before the softmax over the names
