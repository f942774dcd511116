"""Between text vectors and the vectors that a network compares its places or queries with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...bundle.errors import BundleError
from ..vocabulary.centring import unit

Floats = npt.NDArray[np.float32]


class TextSpace:
    """Vectors are compared in the text space itself: D = C."""

    def from_text(self, vectors: Floats) -> Floats:
        """Text vectors (..., D), of any length -> unit vectors (..., C) as the network compares them."""
        return unit(vectors)

    def to_text(self, vectors: Floats) -> Floats:
        """Unit vectors (N, C) -> unit text vectors (N, D) that the network takes for them."""
        return unit(vectors)

    def weighted(self, vectors: Floats, weight: float) -> Floats:
        """Unit vectors (N, C) whose products with any place are `weight` times those of `vectors`.

        The network makes every vector unit, so scaling does nothing; where there is no other way, `vectors`.
        """
        return vectors


class ProjectedTextSpace(TextSpace):
    """The network compares unit(W unit(t) + b) for a text vector t, with fewer components than t: C < D.

    So every direction has text vectors. Of those that give u, one is the solution of W t = s u - b with the least
    length, which grows with s; the s is taken at which its length is 1, since the network makes t unit first.
    """

    def __init__(self, weight: Floats, bias: Floats, unused: Floats | None = None) -> None:
        """`weight` (D, C) is the transpose of W, `bias` (C,). Raises `BundleError` where no inverse exists.

        `unused` (C,), unit, is a direction in which no place has a component: mixing with it makes a vector weaker.
        """
        self._unused = unused
        self._weight, self._bias = weight.astype(np.float64), bias.astype(np.float64)
        self._rows = np.ascontiguousarray(weight.T, np.float32)
        spread = np.linalg.svd(self._weight, compute_uv=False)
        if not np.isfinite(spread).all() or spread[-1] < 1e-6 * spread[0]:
            raise BundleError(
                "the bundle's projection of text vectors cannot be inverted, so it cannot take examples; export it "
                "again, or use names"
            )
        self._inverse = np.linalg.pinv(self._weight.T)  # (D, C)
        self._offset = self._inverse @ self._bias

    def from_text(self, vectors: Floats) -> Floats:
        """See `TextSpace`."""
        # Not `@`: for so little work BLAS spends longer waking threads that the network keeps busy.
        return unit(np.einsum("...d,cd->...c", unit(vectors), self._rows) + self._bias.astype(np.float32))

    def to_text(self, vectors: Floats) -> Floats:
        """See `TextSpace`."""
        found = np.empty((len(vectors), len(self._inverse)), np.float32)
        for row, vector in enumerate(unit(vectors).astype(np.float64)):
            along = self._inverse @ vector
            # |s along - offset| = 1: the larger solution, which is positive while the offset is shorter than 1.
            middle, square = along @ self._offset, along @ along
            root = middle**2 - square * (self._offset @ self._offset - 1)
            scale = (middle + np.sqrt(max(root, 0.0))) / square
            found[row] = along * max(scale, 1e-3) - self._offset
        return found

    def weighted(self, vectors: Floats, weight: float) -> Floats:
        """See `TextSpace`."""
        if self._unused is None:
            return vectors
        aside = unit(self._unused - (vectors @ self._unused)[:, None] * vectors)
        return np.asarray(weight * vectors + np.sqrt(1 - weight**2) * aside, np.float32)
