"""`examples.json`: which values of a bundle's FP32 graph tell the vector of a region, for classes that are shown.

The values are inside the graph and none of its outputs, so a graph that runs computes and copies nothing more for
them. What reads examples opens the file a second time, with these values as outputs. A bundle without this file was
exported by an earlier version: it takes names only.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

from ...bundle.errors import BundleError
from ...bundle.manifest import TensorSpec
from ...bundle.strict import parse

EXAMPLES = "examples.json"
SCHEMA = 1

_ADVICE = "export the bundle again"
_MOST_ELEMENTS = 2**28  # of one value
_MOST_WINDOWS = 4096
_MOST_VALUES = 8
_MOST_CHARACTERS = 300  # of a value's name


@dataclass(frozen=True)
class ProjectionSpec:
    """How text vectors t become the vectors that places are compared with: unit(weight.T @ unit(t) + bias)."""

    weight: TensorSpec  # (D, C)
    bias: TensorSpec  # (C,)


@dataclass(frozen=True)
class StatisticsSpec:
    """How the vectors of places are spread, measured when the bundle was exported, on the photos of its parity check."""

    photos: int
    mean: tuple[float, ...]  # (C,)
    covariance: tuple[tuple[float, ...], ...]  # (C, C)


@dataclass(frozen=True)
class PlacesSpec:
    """A vector for every place of a grid: models without queries."""

    vectors: TensorSpec  # (1, C, rows, columns), or (windows, rows * columns, C) row by row
    channels_first: bool  # which of the two
    grid: tuple[int, ...]  # rows, columns of every window
    windows: tuple[tuple[int, ...], ...]  # top, left, bottom, right of each in the input's pixels
    projection: ProjectionSpec | None = None  # None: the vectors are in the text space
    statistics: StatisticsSpec | None = None  # None: not measured


@dataclass(frozen=True)
class QueriesSpec:
    """A mask and a vector for every query."""

    vectors: tuple[TensorSpec, ...]  # (1, Q, D) each, unit, in the text space; of every classifier there is
    shares: tuple[float, ...]  # of each classifier in a name's logit
    masks: TensorSpec  # (1, Q, h, w), logits over the whole input


@dataclass(frozen=True)
class RegionSpec:
    """Where the vectors of regions come from; one of both."""

    places: PlacesSpec | None = None
    queries: QueriesSpec | None = None
    schema: int = SCHEMA

    @property
    def values(self) -> tuple[TensorSpec, ...]:
        """All values of the graph that are read, float32 each."""
        if self.places is not None:
            further = () if (given := self.places.projection) is None else (given.weight, given.bias)
            return (self.places.vectors, *further)
        return () if self.queries is None else (*self.queries.vectors, self.queries.masks)

    def to_json(self) -> str:
        """JSON."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    @classmethod
    def from_json(cls, text: str, origin: str, dim: int) -> RegionSpec:
        """Parse; `dim` is D of the bundle's text vectors. Raises `BundleError`."""
        try:
            raw = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{origin} is not JSON ({error}); {_ADVICE}") from error
        if isinstance(raw, dict) and raw.get("schema") != SCHEMA:
            raise BundleError(
                f"{origin} has schema {raw.get('schema')!r}, this version reads {SCHEMA}; update ovs-edge or {_ADVICE}"
            )
        spec = parse(cls, raw, origin, _ADVICE)
        if not spec._fits(dim):
            raise BundleError(f"{origin} describes values that cannot give text vectors of length {dim}; {_ADVICE}")
        return spec

    def _fits(self, dim: int) -> bool:
        values = self.values
        return (
            (self.places is None) != (self.queries is None)
            and 0 < len(values) <= _MOST_VALUES
            and all(map(_is_sound, values))
            and (self.places is None or _places_fit(self.places, dim))
            and (self.queries is None or _queries_fit(self.queries, dim))
        )


def _is_sound(value: TensorSpec) -> bool:
    sides = [side for side in value.shape if isinstance(side, int) and side > 0]
    named = value.name.isprintable() and 0 < len(value.name) <= _MOST_CHARACTERS
    return named and value.dtype == "float32" and len(sides) == len(value.shape) and math.prod(sides) <= _MOST_ELEMENTS


def _places_fit(places: PlacesSpec, dim: int) -> bool:
    count = len(places.windows)
    if len(places.grid) != 2 or min(places.grid) < 1 or not 0 < count <= _MOST_WINDOWS:
        return False
    if any(len(window) != 4 or not _is_box(window) for window in places.windows):
        return False
    rows, columns = places.grid
    channels = dim
    if places.projection is not None:
        channels = int(places.projection.bias.shape[0])
        if places.projection.weight.shape != (dim, channels) or channels > dim:
            return False
    if places.statistics is not None and not _is_spread(places.statistics, channels):
        return False
    if places.channels_first:
        return count == 1 and places.vectors.shape == (1, channels, rows, columns)
    return places.vectors.shape == (count, rows * columns, channels)


def _is_spread(statistics: StatisticsSpec, channels: int) -> bool:
    rows = (statistics.mean, *statistics.covariance)
    whole = len(rows) == channels + 1 and all(len(row) == channels for row in rows)
    return whole and all(math.isfinite(value) for row in rows for value in row)


def _is_box(window: tuple[int, ...]) -> bool:
    top, left, bottom, right = window
    return 0 <= top < bottom and 0 <= left < right


def _queries_fit(queries: QueriesSpec, dim: int) -> bool:
    masks = queries.masks.shape
    return (
        len(masks) == 4
        and 0 < len(queries.vectors) == len(queries.shares)
        and all(math.isfinite(share) and share > 0 for share in queries.shares)
        and all(value.shape == (1, masks[1], dim) for value in queries.vectors)
    )
