"""Numbers of files, pages and command lines: whatever they are, they are taken or refused in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovs_edge.bundle.errors import OvsError, UsageError
from ovs_edge.runtime.cameras.config import CameraConfig, ModelConfig
from ovs_edge.runtime.cameras.tables import Place, read_table
from ovs_edge.runtime.events.config import parse_places, parse_rules, parse_toml, parse_watch
from ovs_edge.runtime.events.delivery.options import parse_delivery
from ovs_edge.runtime.events.places import Places
from ovs_edge.runtime.examples.region import ShownRegion
from ovs_edge.runtime.options import RunOptions, parse_point
from ovs_edge.runtime.viewer.messages import parse_number
from ovs_edge.serving.options import ServeOptions

NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.floats(),
    st.integers(),
    st.integers(0, 5000).map(lambda digits: 10**digits),
    st.sampled_from(
        [10**400, -(10**400), 2**63, 2**64, 10**5000, math.nan, math.inf, -math.inf, True, False, "1", "", None]
    ),
    st.lists(st.sampled_from([10**400, math.nan, 0.5]), max_size=2),
)


def refused(error: OvsError) -> None:
    assert "\n" not in str(error)
    assert len(str(error)) < 300, str(error)


@settings(max_examples=200, deadline=None)
@given(NUMBERS, NUMBERS, st.sampled_from([parse_places, lambda table: parse_watch(table, "zones.toml").places]))
def test_any_value_as_a_point(x: Any, y: Any, read: Callable[[dict[str, Any]], Places]) -> None:
    try:
        places = read({"zones": {"door": {"points": [[x, y], [1, 0], [1, 1]]}}})
    except UsageError as error:
        refused(error)
    else:
        assert places.zones[0].points[0] == (float(x), float(y))
        assert 0 <= x <= 1
        assert 0 <= y <= 1


@settings(max_examples=100, deadline=None)
@given(NUMBERS, st.sampled_from(["zones", "lines", "rules", "points", "anchor", "rule"]))
def test_any_value_in_place_of_a_table(value: Any, where: str) -> None:
    tables: dict[str, Any] = {
        "points": {"zones": {"door": {"points": value}}},
        "anchor": {"zones": {"door": {"points": [[0, 0], [1, 0], [1, 1]], "anchor": value}}},
        "rule": {"rules": {"visitor": value}},
    }
    with pytest.raises(UsageError) as caught:
        parse_watch(tables.get(where, {where: value or 1}), "zones.toml")
        parse_rules(value)
    refused(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    NUMBERS,
    st.sampled_from(
        [("webhook", "timeout"), ("command", "timeout"), ("spool", "most_events"), ("spool", "most_megabytes")]
    ),
)
def test_any_value_as_an_option_of_delivery(value: Any, option: tuple[str, str]) -> None:
    needed = {"webhook": {"url": "http://host/"}, "command": {"run": "true"}, "spool": {}}
    table, key = option
    try:
        config = parse_delivery({table: {**needed[table], key: value}}, "zones.toml")
    except UsageError as error:
        refused(error)
    else:
        assert getattr(getattr(config, table), key) == value


@settings(max_examples=150, deadline=None)
@given(
    NUMBERS,
    st.sampled_from(["threshold", "smooth", "keyframes", "min_region", "max_fps", "rate", "opacity", "threads"]),
)
def test_any_value_in_a_configuration(value: Any, key: str) -> None:
    kind = ModelConfig if key == "threads" else CameraConfig
    needed = {} if key == "threads" else {"source": "0", "classes": "person"}
    try:
        options = read_table({**needed, key: value}, kind, Place("cameras.toml", "cameras.door"))
    except UsageError as error:
        refused(error)
    else:
        assert getattr(options, key) == value


@settings(max_examples=100, deadline=None)
@given(NUMBERS)
def test_any_value_as_a_number_of_the_page(value: Any) -> None:
    try:
        number = parse_number(value, "threshold")
    except UsageError as error:
        refused(error)
    else:
        assert number == float(value)
        assert math.isfinite(number)


@settings(max_examples=100, deadline=None)
@given(st.floats(), st.sampled_from(["threshold", "opacity", "smooth", "min_region"]))
def test_any_number_as_an_option_of_ovs_run(value: float, name: str) -> None:
    try:
        options = RunOptions(classes="person", **{name: value})  # type: ignore[arg-type]
    except UsageError as error:
        refused(error)
    else:
        assert 0 <= getattr(options, name) <= 1


@settings(max_examples=100, deadline=None)
@given(st.floats(), st.sampled_from(["max_body", "max_pixels", "cache", "gpus", "threshold"]))
def test_any_number_as_an_option_of_ovs_serve(value: float, name: str) -> None:
    try:
        options = ServeOptions(**{name: value})  # type: ignore[arg-type]
    except UsageError as error:
        refused(error)
    else:
        assert 0 <= getattr(options, name) <= 2**16


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5000, "-" + "9" * 19, "0x" + "f" * 5000, f"[[{'9' * 30}]]"])
def test_an_integer_of_more_than_64_bits_is_no_toml(number: str) -> None:
    with pytest.raises(
        UsageError, match=r"^zones\.toml: (it|\[spool\] most_events is or) holds an integer of more than 64 bits"
    ) as caught:
        parse_toml(f"[spool]\nmost_events = {number}\n".encode(), "zones.toml")
    refused(caught.value)
    with pytest.raises(UsageError, match="nested too deeply"):
        parse_toml(b".".join([b"a"] * 5000) + b" = 1", "zones.toml")
    assert parse_toml(b"n = [9223372036854775807, -9223372036854775808]", "zones.toml")


@pytest.mark.parametrize("number", [10**400, pytest.param(10**5000, id="5000 digits"), True, "1"])
def test_a_region_in_numbers_that_are_none(number: Any) -> None:
    for region in ({"point": (number, 1)}, {"box": (0, 1, number, 3)}):
        with pytest.raises(UsageError, match="expected x, y") as caught:
            ShownRegion(**region)
        refused(caught.value)


@pytest.mark.parametrize("text", ["9" * 5000 + ",1", "1e9,1", "²,1", "nan,1"])
def test_a_pixel_that_is_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_point(text)
    refused(caught.value)
