"""The vector of a region that wins inside the region and nowhere else: logistic regression of one row.

All other rows, those of the names that compete, stay as they are. A place belongs to the class where the class's
product with the place's vector is above the largest of the others, so what is fitted is

    sum of  log(1 + exp(-(e·u - m)))  over the places inside    (weight 1 in all)
          + log(1 + exp(+(e·u - m)))  over those outside        (1) and over everyday places (`_EVERYDAY`)

for unit u, e the vector of a place and m its best product with another name. One picture with a few hundred places says
little about 64 numbers; the everyday places stand for all that is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..vocabulary.centring import unit

# Products of a shown class's row with places count so much of what they are: the class wins with a margin only. Chosen
# with `dense_mini` on coco_panoptic and on categories left out of training, see docs/guides/examples.md.
WEIGHT = 0.9
_EVERYDAY = 3.0
_STEPS = 40
_RATE = 0.05

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FittedVector:
    """A fitted vector, and how well it and the plain one find the region in its own picture."""

    vector: Floats  # (C,), unit
    found: float  # IoU of the region and the places that the vector wins
    found_plain: float  # the same of the vector that was not fitted


@dataclass(frozen=True)
class PicturePlaces:
    """The places of one picture that are not padding."""

    vectors: Floats  # (N, C)
    share: Floats  # (N,) of each place that the region covers
    inside: Floats  # (N,) weight of the places that lie in the region, 0 for the others


def fit_vector(plain: Floats, places: PicturePlaces, everyday: Floats, rivals: Floats) -> FittedVector:
    """Fit a unit vector (C,), starting from `plain`; `everyday` (M, C), `rivals` (R, C) unit vectors of other names."""
    inside, outside = places.inside > 0, places.share < 0.01
    best = (np.concatenate([places.vectors, everyday]) @ rivals.T).max(axis=1)
    of_places, of_everyday = np.split(best, [len(places.vectors)])
    vectors = np.concatenate([places.vectors[inside], places.vectors[outside], everyday])
    best = np.concatenate([of_places[inside], of_places[outside], of_everyday])
    counts = (int(inside.sum()), int(outside.sum()), len(everyday))
    sign = np.repeat(np.array([1, -1, -1], np.float32), counts)
    weight = np.concatenate(
        [
            places.inside[inside] / places.inside.sum(),
            np.full(counts[1], 1 / max(counts[1], 1)),
            np.full(counts[2], _EVERYDAY / max(counts[2], 1)),
        ]
    ).astype(np.float32)
    fitted, step, size = plain.astype(np.float32), np.zeros_like(plain), 0.0
    for count in range(1, _STEPS + 1):  # Adam with one step size for all directions, on the sphere
        # Not `@`: for so little work BLAS spends longer waking threads that the network keeps busy.
        lead = np.einsum("nc,c->n", vectors, fitted) - best
        wrong = weight * sign / (1 + np.exp(np.clip(sign * lead, -60, 60)))
        slope = -np.einsum("n,nc->c", wrong, vectors)
        slope -= (slope @ fitted) * fitted
        step = 0.9 * step + 0.1 * slope
        size = 0.99 * size + 0.01 * float((slope * slope).mean())
        scale = np.sqrt(size / (1 - 0.99**count)) + 1e-9
        fitted = unit((fitted - _RATE / scale * step / (1 - 0.9**count))[None])[0]
    return FittedVector(fitted, _found(fitted, places, of_places), _found(plain, places, of_places))


def _found(vector: Floats, places: PicturePlaces, best: Floats) -> float:
    """IoU of the region and the places that `vector` wins against `best` (N,), the largest of the others."""
    won = WEIGHT * np.einsum("nc,c->n", places.vectors, vector) > best
    either = float(np.maximum(won, places.share).sum())
    return float((won * places.share).sum()) / either if either else 0.0
