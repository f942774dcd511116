"""`examples.json`: read strictly, refused with one line."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ovs_edge.bundle.errors import BundleError
from ovs_edge.bundle.manifest import TensorSpec
from ovs_edge.runtime.examples.region_spec import PlacesSpec, ProjectionSpec, QueriesSpec, RegionSpec, StatisticsSpec

DIM = 6


def _value(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, "float32", shape)


DENSE = RegionSpec(
    places=PlacesSpec(
        _value("v", 1, 4, 2, 3), True, (2, 3), ((0, 0, 16, 24),), ProjectionSpec(_value("w", DIM, 4), _value("b", 4))
    )
)
WINDOWS = RegionSpec(places=PlacesSpec(_value("v", 2, 6, DIM), False, (2, 3), ((0, 0, 16, 24), (0, 8, 16, 32))))
QUERIES = RegionSpec(queries=QueriesSpec((_value("q", 1, 5, DIM),), (1.0,), _value("m", 1, 5, 8, 8)))


MEASURED = RegionSpec(
    places=dataclasses.replace(DENSE.places, statistics=StatisticsSpec(2, (0.5,) * 4, ((1.0,) * 4,) * 4))  # type: ignore[arg-type]
)


@pytest.mark.parametrize("spec", [DENSE, WINDOWS, QUERIES, MEASURED])
def test_survives_json(spec: RegionSpec) -> None:
    assert RegionSpec.from_json(spec.to_json(), "examples.json", DIM) == spec


def test_values() -> None:
    assert [value.name for value in DENSE.values] == ["v", "w", "b"]
    assert [value.name for value in WINDOWS.values] == ["v"]
    assert [value.name for value in QUERIES.values] == ["q", "m"]


def _changed(spec: RegionSpec, **changes: Any) -> RegionSpec:
    part = "places" if spec.places is not None else "queries"
    return dataclasses.replace(spec, **{part: dataclasses.replace(getattr(spec, part), **changes)})


@pytest.mark.parametrize(
    "spec",
    [
        RegionSpec(),
        RegionSpec(places=DENSE.places, queries=QUERIES.queries),
        _changed(DENSE, grid=(2, 4)),
        _changed(DENSE, grid=(2,)),
        _changed(DENSE, windows=((0, 0, 16, 0),)),
        _changed(DENSE, windows=()),
        _changed(DENSE, projection=None),
        _changed(DENSE, statistics=StatisticsSpec(1, (0.0,) * 4, ((0.0,) * 4,) * 3)),
        _changed(DENSE, statistics=StatisticsSpec(1, (0.0, float("nan"), 0.0, 0.0), ((0.0,) * 4,) * 4)),
        _changed(DENSE, vectors=_value("v" * 301, 1, 4, 2, 3)),
        _changed(DENSE, vectors=_value("v\n", 1, 4, 2, 3)),
        _changed(WINDOWS, vectors=_value("v", 2, 6, DIM + 1)),
        _changed(QUERIES, shares=(float("inf"),)),
        _changed(QUERIES, shares=()),
        _changed(QUERIES, masks=_value("m", 1, 4, 8, 8)),
        _changed(QUERIES, masks=_value("m", 1, 5, 2**15, 2**15)),
        _changed(QUERIES, masks=TensorSpec("m", "float16", (1, 5, 8, 8))),
    ],
)
def test_what_cannot_be_is_refused(spec: RegionSpec) -> None:
    with pytest.raises(BundleError, match="export the bundle again"):
        RegionSpec.from_json(spec.to_json(), "examples.json", DIM)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "found list"),
        ("{}", "schema None"),
        (json.dumps({**dataclasses.asdict(DENSE), "schema": 2}), "update ovs-edge"),
        (json.dumps({**dataclasses.asdict(DENSE), "more": 1}), "unknown entries"),
    ],
)
def test_what_is_no_description_is_refused(text: str, reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        RegionSpec.from_json(text, "examples.json", DIM)
