"""What an export may be asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_edge.bundle.errors import UsageError
from ovs_edge.export.options import MAX_CLASSES, ExportOptions, ExportRequest, parse_size, resolve
from ovs_edge.segmenter.config import gkc_r50, mini


def test_defaults_follow_the_model() -> None:
    assert resolve(mini()) == ExportOptions((384, 384), 3, "fast", "gridsample", 512, "fp32", "fp32", "full")
    assert resolve(gkc_r50()) == ExportOptions((512, 512), 9, "exact", "gridsample", 512, "fp32", "fp32", "full")


def test_width_comes_first_as_cameras_have_it() -> None:
    """`--size` is WIDTHxHEIGHT on every command; the input of the network is (height, width)."""
    assert parse_size("512x384") == (384, 512)
    assert parse_size(" 64X96 ") == (96, 64)


@pytest.mark.parametrize(
    "text", ["", "384", "384x", "x384", "384x500", "0x0", "-32x32", "32x32x32", "3٨4x384", "8192x32", "axb", "1e2x32"]
)
def test_impossible_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="--size"):
        parse_size(text)


@given(st.text())
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        height, width = parse_size(text)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert height % 32 == 0
        assert width % 32 == 0


@pytest.mark.parametrize("layers", [-1, 0, 4])
def test_impossible_depths(layers: int) -> None:
    with pytest.raises(UsageError, match="1 to 3"):
        resolve(mini(), ExportRequest(decoder_layers=layers))


@pytest.mark.parametrize("count", [-1, 0, MAX_CLASSES + 1])
def test_impossible_class_counts(count: int) -> None:
    with pytest.raises(UsageError, match="--max-classes"):
        resolve(mini(), ExportRequest(max_classes=count))
