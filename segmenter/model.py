"""The whole model: image and text vectors to query masks, class logits, and semantic scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..bundle.errors import UsageError
from .backbone import build_backbone
from .config import SegmenterConfig
from .deformable import DeformableAttention, Formulation
from .pixel_decoder import PixelDecoder
from .query_decoder import QueryDecoder, QueryState

NO_NAME = -1e4  # logit of a padded name: no probability in any precision
STRIDE = 32  # the input's sides are multiples of this


@dataclass(frozen=True)
class SegmenterOutput:
    """Raw outputs of one depth."""

    mask_logits: Tensor  # (B, Q, H/4, W/4)
    class_logits: Tensor  # (B, Q, K + 1), the last column is "no object"
    vectors: tuple[
        Tensor, ...
    ] = ()  # (B, Q, D) each, unit: the queries in the text space, as every classifier has them


class ImageModel(nn.Module):
    """What every family shares: a backbone, and the pixels it takes."""

    family: ClassVar[str]
    pixel_decoder: nn.Module  # of what the backbone gives
    # Largest difference of a confidence that an exact export may show on 99 % of the pixels where labels agree.
    score_tolerance: ClassVar[float] = 1e-4
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        if config.family != self.family:
            raise UsageError(f"{config.name} is a model of the family {config.family!r}, expected {self.family!r}")
        self.config = config
        self.backbone = build_backbone(config.backbone)
        self.register_buffer("pixel_mean", torch.tensor(config.pixel_mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.pixel_std).view(1, 3, 1, 1), persistent=False)

    def training_vectors(self) -> Tensor | None:
        """Unit vectors (N, D) of the training names where the model itself holds them, in the vocabulary's order."""
        return None

    def use_formulation(self, formulation: Formulation) -> None:
        """Choose how deformable attention samples; results are equal."""
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.formulation = formulation

    def normalise(self, image: Tensor) -> Tensor:
        """RGB (B, 3, H, W) float 0..255 -> zero mean, unit variance; both sides must be multiples of 32."""
        if image.shape[2] % STRIDE or image.shape[3] % STRIDE:
            raise UsageError(
                f"the input is {image.shape[3]}x{image.shape[2]}, both sides must be multiples of {STRIDE}"
            )
        return (image - self.pixel_mean) / self.pixel_std


class MaskModel(ImageModel):
    """What the families with queries share: pixel decoder, query decoder. A family adds how queries are classified."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__(config)
        self.pixel_decoder = PixelDecoder(config.pixel_decoder, self.backbone.channels)
        self.query_decoder = QueryDecoder(
            config.query_decoder, config.pixel_decoder.channels, config.pixel_decoder.mask_channels
        )

    def forward(self, image: Tensor, text_embeddings: Tensor, depth: int | None = None) -> SegmenterOutput:
        """RGB (B, 3, H, W) float 0..255, text vectors (K, S, D) -> masks, classes of the last (or `depth`-th) layer."""
        raise NotImplementedError

    def classifier_shares(self) -> tuple[float, ...]:
        """Share of each of `SegmenterOutput.vectors` in the logit of a name that was not trained."""
        return (1.0,)

    def decode(self, mask_features: Tensor, levels: list[Tensor], depth: int | None = None) -> list[QueryState]:
        """What the pixel decoder gave -> states after 0, 1, … `depth` decoder layers."""
        if depth is not None and not 1 <= depth <= self.config.query_decoder.layers:
            raise UsageError(
                f"{depth} decoder layers were requested, this model has 1 to {self.config.query_decoder.layers}"
            )
        states: list[QueryState] = self.query_decoder(mask_features, levels, depth)
        return states


class SegmenterModel(MaskModel):
    """GKC: CLIP-like backbone, pixel decoder, query decoder, cosine classifier against text vectors."""

    family = "gkc"

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__(config)
        channels, dim = config.pixel_decoder.channels, config.text.dim
        # The text projection: one shared linear layer, then one head per depth, so that any depth can be the last.
        self.class_embed = nn.Linear(channels, channels)
        self.text_proj = nn.ModuleList(nn.Linear(channels, dim) for _ in range(config.query_decoder.layers + 1))
        self.no_object = nn.Parameter(torch.randn(1, dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def states(self, image: Tensor, depth: int | None = None) -> list[QueryState]:
        """RGB (B, 3, H, W) float 0..255, sides multiples of 32 -> states after 0, 1, … `depth` decoder layers."""
        return self.decode(*self.features(image), depth)

    def features(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """RGB (B, 3, H, W) float 0..255 -> mask features (B, M, H/4, W/4), levels at strides 32, 16, 8."""
        features: tuple[Tensor, list[Tensor]] = self.pixel_decoder(self.backbone(self.normalise(image)))
        return features

    def embed(self, state: QueryState, depth: int) -> Tensor:
        """Unit vectors (B, Q, D) of the queries in the text space, by the head of `depth`."""
        hidden = torch.relu(self.class_embed(state.embedding))
        return nn.functional.normalize(self.text_proj[depth](hidden), dim=-1)

    def classify(self, embedding: Tensor, text_embeddings: Tensor) -> Tensor:
        """Unit query vectors (B, Q, D), text vectors (K, S, D) -> logits (B, Q, K + 1)."""
        return cosine_logits(embedding, text_embeddings, self.no_object, self.logit_scale.exp())

    def forward(self, image: Tensor, text_embeddings: Tensor, depth: int | None = None) -> SegmenterOutput:
        """RGB (B, 3, H, W) float 0..255, text vectors (K, S, D) -> masks, classes of the last (or `depth`-th) layer."""
        state = self.states(image, depth)[-1]
        layers = self.config.query_decoder.layers if depth is None else depth
        embedding = self.embed(state, layers)
        return SegmenterOutput(state.mask_logits, self.classify(embedding, text_embeddings), (embedding,))


def cosine_logits(embedding: Tensor, text_embeddings: Tensor, no_object: Tensor, scale: Tensor) -> Tensor:
    """Scaled cosine of every query with every class; a class is as near as its nearest name.

    embedding (B, Q, D) unit, text_embeddings (K, S, D) of any length, no_object (1, D) -> (B, Q, K + 1).
    A zero row is no name; a class without names gets `NO_NAME`.
    """
    void = scale * (embedding @ nn.functional.normalize(no_object, dim=-1).T)
    return torch.cat((name_logits(embedding, text_embeddings, scale), void), -1)


def name_logits(embedding: Tensor, text_embeddings: Tensor, scale: Tensor) -> Tensor:
    """`cosine_logits` without its last column: (B, Q, K)."""
    classes, names, dim = text_embeddings.shape
    length = text_embeddings.norm(dim=-1, keepdim=True)
    unit = text_embeddings / length.clamp(min=1e-6)
    logits = scale * (embedding @ unit.reshape(classes * names, dim).T)
    missing = (length[..., 0] == 0).to(logits.dtype) * NO_NAME
    best: Tensor = (logits.unflatten(2, (classes, names)) + missing).amax(-1)
    return best


def semantic_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Per-pixel class scores: class probabilities ("no object" dropped) times mask probabilities, summed over queries.

    class_logits (B, Q, K + 1), mask_logits (B, Q, h, w) -> (B, K, h, w).
    """
    probability = class_logits.softmax(-1)[..., :-1]
    masks = mask_logits.sigmoid()
    scores: Tensor = probability.transpose(1, 2) @ masks.flatten(2)
    return scores.view(*scores.shape[:2], *masks.shape[2:])
