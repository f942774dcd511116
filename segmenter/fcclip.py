"""FC-CLIP (Yu et al., NeurIPS 2023): one frozen CLIP is the backbone and a second classifier of every mask.

image -> CLIP -> pixel decoder -> query decoder -> masks
                              in vocabulary: queries + features pooled over their masks -> cosine with the names
         res5 pooled by CLIP's own head over each mask: out of vocabulary -> cosine with the names
both -> geometric ensemble, leaning on the first for names that were trained -> class probabilities, void
"""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor, nn

from ..bundle.errors import UsageError
from .config import SegmenterConfig
from .convnext import EPS
from .model import MaskModel, SegmenterOutput, cosine_logits, name_logits
from .query_decoder import MASKED, MLP, QueryState

HEAD_CHANNELS = 64  # of an attention head in every CLIP
MAX_SCALE = 100.0  # of the cosine, as in CLIP
WEIGHT_SEEN, WEIGHT_UNSEEN = 0.4, 0.8  # share of the out-of-vocabulary classifier
# Cosine from which two text vectors are those of one name. A name encoded twice, in batches of other lengths or by
# another engine in FP32, differs by 1e-6; CLIP's nearest different names stay below 0.99.
SAME_NAME = 1 - 1e-4


class AttentionPool(nn.Module):
    """CLIP's attention pooling of res5, once for each mask: places outside of it are no keys."""

    def __init__(self, channels: int, grid: int, dim: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_CHANNELS
        self.positional_embedding = nn.Parameter(torch.randn(grid * grid + 1, channels) * channels**-0.5)
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, dim)

    def forward(self, feature: Tensor, inside: Tensor) -> Tensor:
        """feature (B, C, h, w), inside (B, Q, h * w) of 0 and 1 -> (B, Q, D). An empty mask pools everything."""
        channels, height, width = feature.shape[1:]
        grid = math.isqrt(self.positional_embedding.shape[0] - 1)
        place = self.positional_embedding[1:].T.reshape(1, channels, grid, grid)
        place = nn.functional.interpolate(place, size=(height, width), mode="bilinear", align_corners=False)
        tokens = feature.flatten(2).transpose(1, 2)
        keys = tokens + place.flatten(2).transpose(1, 2)
        query = self._split(self.q_proj(tokens.mean(1, keepdim=True) + self.positional_embedding[:1]))
        # The query is the same for all masks, so its logits are computed once.
        logits = (query * HEAD_CHANNELS**-0.5) @ self._split(self.k_proj(keys)).transpose(-1, -2)
        attention = (logits + ((1 - inside) * MASKED)[:, None]).softmax(-1)
        pooled = (attention @ self._split(self.v_proj(keys))).transpose(1, 2).flatten(2)
        result: Tensor = self.c_proj(pooled)
        return result

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, HEAD_CHANNELS).transpose(1, 2)


class MeanPool(nn.Module):
    """CLIP's ConvNeXt head on the mean of res5 over each mask."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=EPS)
        self.fc1 = nn.Linear(channels, 2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim, bias=False)

    def forward(self, feature: Tensor, inside: Tensor) -> Tensor:
        """feature (B, C, h, w), inside (B, Q, h * w) of 0 and 1 -> (B, Q, D). An empty mask pools zeros."""
        result: Tensor = self.fc2(nn.functional.gelu(self.fc1(self.norm(mask_mean(feature, inside)))))
        return result


def mask_mean(feature: Tensor, inside: Tensor) -> Tensor:
    """Mean over each mask: feature (B, C, h, w), inside (B, Q, h * w) of 0 and 1 -> (B, Q, C), zeros if empty."""
    share = inside / inside.sum(-1, keepdim=True).clamp(min=1)
    return share @ feature.flatten(2).transpose(1, 2)


class FCClip(MaskModel):
    """FC-CLIP as published, for inference.

    The ensemble needs to know for every class whether its names were trained. It derives that from the text vectors:
    the model holds the vectors of its training names, and a class is "seen" when one of its own equals one of them. So
    the graph keeps the two inputs that every segmenter has; a runtime need not know the rule, spelling does not matter
    where the tokenizer ignores it, and background classes made of training names count as seen without a rule of their own.
    It costs a product of the given vectors with some 260 rows, about as much as the classifier's own with 250 queries.
    """

    family = "fcclip"
    score_tolerance = (
        1e-3  # every mask is thresholded twice more, to pool features under it, where one bit moves a mean
    )
    seen_vectors: Tensor

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__(config)
        kind = config.backbone.kind
        if kind not in {"clip_resnet", "convnext"}:
            raise UsageError(f"{config.name}: FC-CLIP needs CLIP's image tower as its backbone, not {kind}")
        channels, mask_channels = config.pixel_decoder.channels, config.pixel_decoder.mask_channels
        last, dim = self.backbone.channels[-1], config.text.dim
        self.pool: nn.Module = (
            MeanPool(last, dim)
            if config.backbone.kind == "convnext"
            else AttentionPool(last, config.backbone.pool_grid, dim)
        )
        self.mask_pooling_proj = nn.Sequential(nn.LayerNorm(mask_channels), nn.Linear(mask_channels, channels))
        self.class_embed = MLP(channels, channels, dim, 3)
        self.no_object = nn.Parameter(torch.randn(1, dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.clip_logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.register_buffer("seen_vectors", torch.zeros(config.seen_names, dim))

    def forward(
        self, image: Tensor, text_embeddings: Tensor, depth: int | None = None, seen: Tensor | None = None
    ) -> SegmenterOutput:
        """RGB (B, 3, H, W) float 0..255, text vectors (K, S, D) -> masks and classes of the last (or `depth`-th) layer.

        `seen` (K,), 1 for classes that share a name with the training vocabulary, else 0; derived when not given. The
        softmax of the class logits is the ensemble's probability, void last.
        """
        features = self.backbone(self.normalise(image))
        mask_features, levels = self.pixel_decoder(features)
        state = self.decode(mask_features, levels, depth)[-1]
        own = self.trained_vectors(state, mask_features)
        trained = cosine_logits(own, text_embeddings, self.no_object, self._scale)
        seen = self.seen(text_embeddings) if seen is None else seen.to(trained.dtype)
        inside, frozen = self.clip_vectors(features[3], state.mask_logits)
        opinion = name_logits(frozen, text_embeddings, self._clip_scale)
        valid = (inside.sum(-1, keepdim=True) > 0).to(trained.dtype)
        weight = (WEIGHT_UNSEEN - (WEIGHT_UNSEEN - WEIGHT_SEEN) * seen) * valid
        return SegmenterOutput(state.mask_logits, ensemble(trained, opinion, weight), (own, frozen))

    def in_vocabulary(self, state: QueryState, mask_features: Tensor, text_embeddings: Tensor) -> Tensor:
        """Logits (B, Q, K + 1) of the trained classifier, void last; mask_features (B, M, H/4, W/4)."""
        return cosine_logits(self.trained_vectors(state, mask_features), text_embeddings, self.no_object, self._scale)

    def trained_vectors(self, state: QueryState, mask_features: Tensor) -> Tensor:
        """Unit vectors (B, Q, D) of the queries by the trained classifier; mask_features (B, M, H/4, W/4)."""
        inside = (state.mask_logits > 0).flatten(2).to(mask_features.dtype)
        pooled = self.mask_pooling_proj(mask_mean(mask_features, inside))
        return nn.functional.normalize(self.class_embed(pooled + state.embedding), dim=-1)

    def out_of_vocabulary(self, feature: Tensor, mask_logits: Tensor, text_embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the frozen CLIP: masks at res5 (B, Q, h * w) of 0 and 1, logits (B, Q, K); feature (B, C, h, w)."""
        inside, embedding = self.clip_vectors(feature, mask_logits)
        return inside, name_logits(embedding, text_embeddings, self._clip_scale)

    def clip_vectors(self, feature: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Masks at res5 (B, Q, h * w) of 0 and 1, unit vectors (B, Q, D) by the frozen CLIP; feature (B, C, h, w)."""
        size = (int(feature.shape[2]), int(feature.shape[3]))
        resized = nn.functional.interpolate(mask_logits, size=size, mode="bilinear", align_corners=False)
        inside = (resized > 0).flatten(2).to(feature.dtype)
        return inside, nn.functional.normalize(self.pool(feature, inside), dim=-1)

    def classifier_shares(self) -> tuple[float, ...]:
        """See `MaskModel`: the ensemble's exponents, times the scale of each classifier's cosine."""
        return ((1 - WEIGHT_UNSEEN) * float(self._scale), WEIGHT_UNSEEN * float(self._clip_scale))

    @property
    def _scale(self) -> Tensor:
        return self.logit_scale.exp().clamp(max=MAX_SCALE)

    @property
    def _clip_scale(self) -> Tensor:
        return self.clip_logit_scale.exp().clamp(max=MAX_SCALE)

    def seen(self, text_embeddings: Tensor) -> Tensor:
        """Which classes have a name of the training vocabulary: (K, S, D) -> (K,) of 0 and 1."""
        classes, names, dim = text_embeddings.shape
        if not self.seen_vectors.shape[0]:
            return torch.zeros_like(text_embeddings[:, 0, 0])
        unit = text_embeddings / text_embeddings.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        nearest = (unit.reshape(classes * names, dim) @ self.seen_vectors.T).amax(-1)
        same: Tensor = (nearest > SAME_NAME).to(text_embeddings.dtype)
        return same.view(classes, names).amax(-1)

    def training_vectors(self) -> Tensor | None:
        """See `MaskModel`."""
        return self.seen_vectors

    def set_seen_vectors(self, vectors: Tensor) -> None:
        """Take `vectors` (N, D), of any length, for those of the training names."""
        if vectors.ndim != 2 or vectors.shape[1] != self.config.text.dim:
            raise UsageError(
                f"training names have vectors of shape {tuple(vectors.shape)}, expected (N, {self.config.text.dim})"
            )
        self.config = dataclasses.replace(self.config, seen_names=vectors.shape[0])
        self.seen_vectors = nn.functional.normalize(vectors.to(self.seen_vectors), dim=-1)


def ensemble(trained: Tensor, opinion: Tensor, weight: Tensor) -> Tensor:
    """Log-probabilities (B, Q, K + 1) of the geometric ensemble, void last.

    trained (B, Q, K + 1) with void, opinion (B, Q, K), weight (B, Q, K) of `opinion` in 0..1. In logarithms
    throughout: the published form takes the logarithm of products that underflow for far-off names.
    """
    named = trained[..., :-1]
    mixed = (1 - weight) * named.log_softmax(-1) + weight * opinion.log_softmax(-1)
    total = trained.logsumexp(-1, keepdim=True)
    some = named.logsumexp(-1, keepdim=True) - total  # log of 1 - p(void)
    return torch.cat((mixed.log_softmax(-1) + some, trained[..., -1:] - total), -1)
