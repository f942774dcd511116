"""Numbers that may come from anywhere, and how they stand in messages."""

from __future__ import annotations

import math

import pytest

from ovs_edge.bundle.strict import finite, is_integer, shown


@pytest.mark.parametrize("value", [0, -1.5, 2**63 - 1, -(2**63), 1e308, 5e-324])
def test_a_number_that_a_float_holds(value: float) -> None:
    assert finite(value) == float(value)
    assert isinstance(finite(value), float)


@pytest.mark.parametrize("value", [True, False, 2**63, -(10**400), math.nan, math.inf, "1", None, [], 1j])
def test_what_is_no_finite_number(value: object) -> None:
    assert finite(value) is None
    assert not is_integer(value)


def test_what_is_shown_in_messages_stays_short() -> None:
    assert shown("door") == "'door'"
    assert len(shown("x" * 10_000)) == 60
    assert shown(10**5000) == "int"
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "list"
