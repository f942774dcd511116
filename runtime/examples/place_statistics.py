"""How the vectors of places are spread over pictures of any kind, and what follows from it for a region's vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_REGULARISER = 0.3  # of the mean variance, added to every direction's
_EVERYDAY = 2000  # vectors drawn from the spread
_UNUSED = 0.01  # of the mean square along a direction, up to which no place uses a direction


@dataclass(frozen=True)
class PlaceStatistics:
    """Mean and spread of places, measured when the bundle was exported."""

    mean: Floats  # (C,)
    whitening: Floats  # (C, C), symmetric: the inverse of their covariance, regularised
    everyday: Floats  # (N, C), places as they are anywhere: drawn from a normal distribution of this spread
    unused: Floats | None = (
        None  # (C,), unit: a direction in which places have next to no component; None: there is none
    )

    @classmethod
    def of(cls, mean: npt.NDArray[Any], covariance: npt.NDArray[Any]) -> PlaceStatistics:
        """From the mean (C,) and covariance (C, C) of the places of some photos."""
        mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        spread, directions = np.linalg.eigh(covariance)
        spread = np.maximum(spread, 0)
        # Directions of little spread are kept from being blown up.
        scale = 1 / (spread + _REGULARISER * max(float(spread.mean()), 1e-9))
        drawn = np.random.default_rng(0).standard_normal((_EVERYDAY, len(mean)))
        squares, axes = np.linalg.eigh(covariance + np.outer(mean, mean))
        unused = axes[:, 0] if squares[0] <= _UNUSED * squares.mean() else None
        return cls(
            np.asarray(mean, np.float32),
            np.asarray(directions @ (scale[:, None] * directions.T), np.float32),
            np.asarray(mean + (drawn * np.sqrt(spread)) @ directions.T, np.float32),
            None if unused is None else np.asarray(unused, np.float32),
        )
