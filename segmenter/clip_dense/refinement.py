"""Scores of a coarse grid, brought to the outlines that the image shows.

Both refinements are linear in the scores, given the image: names are weighed against each other as before.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import ScoreRefinement

_EIGHT = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0))


class Pamr(nn.Module):
    """Pixel-adaptive mask refinement (Araslanov and Roth, "Single-Stage Semantic Segmentation", CVPR 2020).

    Ten times, every pixel takes a mean of 16 pixels, 8 and 16 pixels away, by how much their colours are like its own.
    """

    STEPS = 10
    DILATIONS = (8, 16)
    SHARPNESS = 10.0  # colour differences are divided by a tenth of the colours' standard deviation

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        """scores (H, W, N), image (H, W, 3) in any scale -> (H, W, N)."""
        weights = self._weights(image)
        for _ in range(self.STEPS):
            padded = _padded(scores, max(self.DILATIONS))
            scores = weights[0] * self._shifted(padded, 0)
            for index in range(1, len(weights)):
                scores = scores + weights[index] * self._shifted(padded, index)
        return scores

    def _weights(self, image: Tensor) -> list[Tensor]:
        """For each of the 16 pixels (H, W, 1); they add up to 1."""
        padded = _padded(image, max(self.DILATIONS))
        count = len(_EIGHT) * len(self.DILATIONS)
        neighbours = torch.stack([self._shifted(padded, index) for index in range(count)])
        # The published deviation counts the pixel itself once for each dilation.
        everyone = torch.cat((neighbours, image.expand(len(self.DILATIONS), -1, -1, -1)))
        centred = everyone - everyone.mean(0, keepdim=True)
        deviation = (centred.square().sum(0) / (len(everyone) - 1)).sqrt()
        unlike = (neighbours - image).abs() / (deviation / self.SHARPNESS + 1e-8)
        return list((-unlike.mean(-1, keepdim=True)).softmax(0).unbind(0))

    def _shifted(self, padded: Tensor, index: int) -> Tensor:
        """Of every pixel the neighbour number `index`, from a map padded by the largest dilation."""
        most = max(self.DILATIONS)
        dilation = self.DILATIONS[index // len(_EIGHT)]
        down, right = (step * dilation + most for step in _EIGHT[index % len(_EIGHT)])
        height, width = padded.shape[0] - 2 * most, padded.shape[1] - 2 * most
        return padded[down : down + height, right : right + width]


def _padded(x: Tensor, by: int) -> Tensor:
    """(H, W, C) with its edge repeated `by` times on every side."""
    channels = x.shape[2]
    x = torch.cat((x[:1].expand(by, -1, channels), x, x[-1:].expand(by, -1, channels)))
    return torch.cat((x[:, :1].expand(-1, by, channels), x, x[:, -1:].expand(-1, by, channels)), 1)


class GuidedFilter(nn.Module):
    """Fast guided filter with a coloured guide (He, Sun and Tang, "Guided Image Filtering", TPAMI 2013; He and Sun, 2015).

    Around every pixel the scores are a linear function of the image's three colours, fitted at a quarter of the size.
    """

    RADIUS = 3  # of the fitted square, in pixels of the small maps
    SMOOTHNESS = 0.014  # added to the variance of a colour; a thousandth of the square of the range 0..255

    def forward(self, scores: Tensor, image: Tensor) -> Tensor:
        """scores (h, w, N) of a size that divides the image's, image (H, W, 3), normalised -> (H, W, N)."""
        stride = image.shape[0] // scores.shape[0]
        guide = image.permute(2, 0, 1)[None]
        guide = nn.functional.avg_pool2d(guide, stride) if stride > 1 else guide
        maps = scores.permute(2, 0, 1)[None]
        mean, guide_mean = self._mean(maps), self._mean(guide)
        # Covariance of each colour with the scores, and of the colours with each other.
        shared = [self._mean(guide[:, index, None] * maps) - guide_mean[:, index, None] * mean for index in range(3)]
        colours = self._mean(guide[:, _FIRST] * guide[:, _SECOND]) - guide_mean[:, _FIRST] * guide_mean[:, _SECOND]
        slopes = _solve(colours, self.SMOOTHNESS, shared)
        offset = mean - sum(slope * guide_mean[:, index, None] for index, slope in enumerate(slopes))
        size = (int(image.shape[0]), int(image.shape[1]))
        result = _upsampled(self._mean(offset), size)
        for index, slope in enumerate(slopes):
            result = result + _upsampled(self._mean(slope), size) * image[..., index, None]
        return result

    def _mean(self, x: Tensor) -> Tensor:
        """(1, C, h, w), the mean of the square around each pixel, as far as it is inside."""
        side = 2 * self.RADIUS + 1
        return nn.functional.avg_pool2d(x, side, 1, self.RADIUS, count_include_pad=False)


# Places of a symmetric 3 x 3 matrix: 00, 01, 02, 11, 12, 22.
_FIRST, _SECOND = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]


def _solve(matrix: Tensor, smoothness: float, right: list[Tensor]) -> list[Tensor]:
    """Solutions of symmetric 3 x 3 systems, (matrix + smoothness * identity) x = right, by their cofactors.

    matrix (1, 6, h, w), right three times (1, N, h, w) -> three times (1, N, h, w).
    """
    aa, ab, ac, bb, bc, cc = matrix.chunk(6, 1)
    aa, bb, cc = aa + smoothness, bb + smoothness, cc + smoothness
    cofactors = (
        (bb * cc - bc * bc, ac * bc - ab * cc, ab * bc - ac * bb),
        (ac * bc - ab * cc, aa * cc - ac * ac, ab * ac - aa * bc),
        (ab * bc - ac * bb, ab * ac - aa * bc, aa * bb - ab * ab),
    )
    determinant = aa * cofactors[0][0] + ab * cofactors[0][1] + ac * cofactors[0][2]
    return [
        sum((row[index] / determinant * right[index] for index in range(1, 3)), row[0] / determinant * right[0])
        for row in cofactors
    ]


def _upsampled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w) -> (H, W, C)."""
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)


def refinement(kind: ScoreRefinement) -> nn.Module | None:
    """The module of a kind, called with scores (h, w, N) and the image (H, W, 3); None leaves the scores as they are."""
    if kind is ScoreRefinement.none:
        return None
    return Pamr() if kind is ScoreRefinement.pamr else GuidedFilter()


def score_stride(kind: ScoreRefinement, size: tuple[int, int]) -> int:
    """Pixels of the image (height, width) to one of the scores that a kind of refinement takes."""
    if kind is not ScoreRefinement.guided:
        return 1
    return next(stride for stride in (4, 2, 1) if size[0] % stride == size[1] % stride == 0)
