"""Names compared by what sets them apart: unit vectors, without what all prompts of an encoder have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_FEWEST_FOR_MEAN = 8  # names


def mean_of(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | None:
    """Mean (D,) of names (N, D). None of few names: theirs is no estimate of what all prompts share."""
    if len(vectors) < _FEWEST_FOR_MEAN:
        return None
    mean: npt.NDArray[np.float32] = vectors.mean(axis=0)
    return mean


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows scaled to length 1; a zero row stays zero, since it means "no name"."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: npt.NDArray[np.float32] = (vectors / np.where(length > 0, length, 1)).astype(np.float32)
    return result
