"""A segmenter without queries: every place is compared with the names directly, in convolutions and plain products.

Pixel embeddings against text vectors, as LSeg does (Li et al. 2022), on a light pyramid. Names are compared at stride
8, where there are few places; what stride 4 adds is a small correction for the few classes that come near to winning
anywhere. So a frame costs nearly the same for ten classes and for hundreds, nothing is decided by thresholds inside the
network, and nearly all work is convolutions, which engines quantise and fold best.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import DenseConfig, SegmenterConfig
from .features import Features
from .model import NO_NAME, ImageModel
from .pixel_decoder import ConvNorm

_SHARP = 4.0  # by so much a logit's distance from the best counts when candidates are chosen
_ALWAYS = 4  # first classes that are candidates wherever they come: those that are asked for come before the background
_AHEAD = 2.0  # added to their shares, which are at most 1
_MOST = 60.0  # of a logit's lead, so that its exponential stays finite


class ConvPyramid(nn.Module):
    """Backbone features to one map of embeddings at stride 8 and one of details at stride 4."""

    def __init__(self, config: DenseConfig, inputs: tuple[int, ...]) -> None:
        super().__init__()
        res2, res3, res4, res5 = inputs
        wide, fine, detail = config.channels, config.fine_channels, config.detail_channels
        self.lateral5 = ConvNorm(res5, wide, 1, 0)
        self.context = ConvNorm(wide, wide, 1, 0)  # of the mean of the whole picture
        self.output5 = ConvNorm(wide, wide, 3, 0)
        self.lateral4 = ConvNorm(res4, wide, 1, 0)
        self.output4 = ConvNorm(wide, wide, 3, 0)
        self.narrow4 = ConvNorm(wide, fine, 1, 0)
        self.lateral3 = ConvNorm(res3, fine, 1, 0)
        self.output3 = ConvNorm(fine, fine, 3, 0, separable=config.separable_fine)
        self.narrow3 = ConvNorm(fine, detail, 1, 0)
        self.lateral2 = ConvNorm(res2, detail, 1, 0)
        self.output2 = ConvNorm(detail, detail, 3, 0)
        self.embed = nn.Conv2d(fine, config.embedding, 1)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """res2..res5 -> embeddings (B, E, H/8, W/8), details (B, F, H/4, W/4), not negative."""
        res2, res3, res4, res5 = features
        x = torch.relu(self.lateral5(res5))
        x = torch.relu(x + self.context(x.mean((2, 3), keepdim=True)))
        x = x + torch.relu(self.output5(x))
        x = torch.relu(self.lateral4(res4) + upsample(x, res4.shape[2:]))
        x = x + torch.relu(self.output4(x))
        x = torch.relu(self.lateral3(res3) + upsample(self.narrow4(x), res3.shape[2:]))
        x = x + torch.relu(self.output3(x))
        y = torch.relu(self.lateral2(res2) + upsample(self.narrow3(x), res2.shape[2:]))
        return self.embed(x), torch.relu(self.output2(y))


class NameVectors(nn.Module):
    """Text vectors as the places are compared with them.

    Sentence vectors of all names have much in common, and the few directions that tell a cow from a sheep are short. A
    linear layer that starts as their whitening makes all directions alike, so that training begins with names apart.
    """

    def __init__(self, dim: int, config: DenseConfig) -> None:
        super().__init__()
        self.project = nn.Linear(dim, config.embedding)
        self.detail = nn.Linear(config.embedding, config.detail_channels)
        self.void = nn.Parameter(torch.randn(1, config.embedding))  # "none of the names"

    def whiten(self, names: Tensor) -> None:
        """Start from the names (N, D) that training knows: their mean becomes zero, their main directions equal."""
        mean = names.mean(0)
        _, spread, directions = torch.linalg.svd(names - mean, full_matrices=False)
        count = min(len(self.project.weight), len(spread))
        scale = (spread[:count] ** 2 / len(names) + 1e-3).rsqrt()
        with torch.no_grad():
            self.project.weight[:count] = directions[:count] * scale[:, None]
            self.project.bias.copy_(-self.project.weight @ mean)

    def forward(self, text_embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(K, S, D) -> unit vectors (K, S, E), detail vectors (K, S, F), logit (K, S) that takes missing names away."""
        length = text_embeddings.norm(dim=-1, keepdim=True)
        vectors = nn.functional.normalize(self.project(text_embeddings / length.clamp(min=1e-6)), dim=-1)
        return vectors, self.detail(vectors), (length[..., 0] == 0).to(vectors.dtype) * NO_NAME

    def none(self) -> tuple[Tensor, Tensor]:
        """Vector (1, E) and detail vector (1, F) of "none of the names"."""
        vector = nn.functional.normalize(self.void, dim=-1)
        return vector, self.detail(vector)


class DenseSegmenter(ImageModel):
    """Backbone, convolutional pyramid, and a comparison of every place with every name."""

    family = "dense"

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__(config)
        assert config.dense is not None
        self.pixel_decoder = ConvPyramid(config.dense, self.backbone.channels)
        self.names = NameVectors(config.text.dim, config.dense)

    def features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """RGB (B, 3, H, W) float 0..255 -> embeddings (B, E, H/8, W/8), details (B, F, H/4, W/4)."""
        features: tuple[Tensor, Tensor] = self.pixel_decoder(self.backbone(self.normalise(image)))
        return features

    def name_logits(self, features: tuple[Tensor, Tensor | None], text_embeddings: Tensor) -> Tensor:
        """Logits (B, K + 1, h, w) of every class, the last "none of the names"; text (K, S, D).

        At stride 4, all names: what `decide` comes to at a fraction of the cost. Without details, at stride 8.
        """
        embeddings, details = features
        vectors, detail, missing = self.names(text_embeddings)
        none, none_detail = self.names.none()
        kernel = torch.cat((vectors.flatten(0, 1), none))[:, :, None, None]
        if details is None:
            logits = nn.functional.conv2d(embeddings, kernel)
        else:
            # To upsample embeddings or logits is the same; the fewer maps are upsampled.
            size = details.shape[2:]
            if len(kernel) > embeddings.shape[1]:
                logits = nn.functional.conv2d(upsample(embeddings, size), kernel)
            else:
                logits = upsample(nn.functional.conv2d(embeddings, kernel), size)
            detail_kernel = torch.cat((detail.flatten(0, 1), none_detail))[:, :, None, None]
            logits = logits + nn.functional.conv2d(details, detail_kernel)
        named = logits[:, :-1].view(len(logits), *missing.shape, *logits.shape[2:]) + missing[..., None, None]
        return torch.cat((named.amax(2), logits[:, -1:]), 1)

    def decide(self, image: Tensor, text_embeddings: Tensor, *, exact: bool = False) -> tuple[Tensor, Tensor]:
        """RGB (1, 3, H, W), text (K, S, D) -> labels (1, H, W) int64, confidence (1, H, W) of 0..1; see `label`."""
        return self.label(self.features(image), text_embeddings, image.shape[2:], exact=exact)

    def label(
        self,
        features: tuple[Tensor, Tensor],
        text_embeddings: Tensor,
        size: tuple[int, ...] | torch.Size,
        *,
        exact: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """What `features` gave, text (K, S, D) -> labels (1, H, W) int64, confidence (1, H, W) of 0..1; size H, W.

        The confidence is the winner's softmax probability among the classes and "none of the names". `exact` takes all
        classes to full size; else only the candidates are compared at stride 4, and labels found at stride 2.
        """
        if exact:
            logits = self.name_logits(features, text_embeddings)
            confidence = logits.softmax(1)[:, :-1].amax(1, keepdim=True)
            return upsample(logits[:, :-1], size).argmax(1), upsample(confidence, size)[:, 0]
        config = self.config.dense
        assert config is not None
        embeddings, details = features
        vectors, detail, missing = self.names(text_embeddings)
        none, none_detail = self.names.none()
        classes, count = text_embeddings.shape[0], config.candidates
        places = embeddings.flatten(2)[0].T  # (N, E)
        rows = (places @ vectors.flatten(0, 1).T).view(-1, *missing.shape) + missing
        # Of each class, the name that is found somewhere stands for it in the details.
        leading = rows.amax(0).argmax(1, keepdim=True)[..., None].expand(-1, 1, detail.shape[2])
        detail = nn.functional.pad(detail.gather(1, leading)[:, 0], (0, 0, 0, count))
        coarse = nn.functional.pad(rows.amax(2), (0, count), value=NO_NAME)  # as many columns as there are candidates
        share = (_SHARP * (coarse - coarse.amax(1, keepdim=True))).exp().mean(0)  # of the places: won, or nearly
        chosen = torch.cat((share[:_ALWAYS] + _AHEAD, share[_ALWAYS:])).topk(count).indices
        # Classes come last from here on: the search for the largest then runs along memory.
        maps = torch.cat((coarse.index_select(1, chosen), places @ none.T), 1).view(1, *embeddings.shape[2:], count + 1)
        kernel = torch.cat((detail.index_select(0, chosen), none_detail))
        fine = details.shape[2:]
        logits = _upsample_last(maps, fine) + (details.flatten(2).transpose(1, 2) @ kernel.T).view(1, *fine, count + 1)
        named = logits[..., :count]
        best = named.amax(-1, keepdim=True)
        confidence = 1 / (logits - best).clamp(max=_MOST).exp().sum(-1)
        height, width = size
        winner = _upsample_last(named, (height // 2, width // 2)).argmax(
            -1
        )  # labels are told apart at every other pixel
        labels = chosen.clamp(max=classes - 1).float().index_select(0, winner.flatten()).view(1, 1, *winner.shape[1:])
        labels = nn.functional.interpolate(labels, size=(height, width), mode="nearest")[:, 0].long()
        return labels, upsample(confidence[None], (height, width))[0]


def _upsample_last(x: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """(B, h, w, C) -> (B, *size, C), bilinear."""
    return upsample(x.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def upsample(x: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """(B, C, h, w) -> (B, C, *size), bilinear."""
    return nn.functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
