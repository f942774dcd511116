"""The geometry between frame and network input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.letterbox import Letterbox

sizes = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
targets = st.tuples(st.integers(1, 1024), st.integers(1, 1024))


@given(sizes, targets)
def test_the_frame_fits_and_touches_a_side(source: tuple[int, int], target: tuple[int, int]) -> None:
    letterbox = Letterbox.fit(source, target)
    assert all(1 <= scaled <= whole for scaled, whole in zip(letterbox.scaled, target, strict=True))
    assert any(scaled == whole for scaled, whole in zip(letterbox.scaled, target, strict=True))


@given(sizes, targets)
def test_the_aspect_is_kept_to_a_pixel(source: tuple[int, int], target: tuple[int, int]) -> None:
    letterbox = Letterbox.fit(source, target)
    scale = min(target[0] / source[0], target[1] / source[1])
    for scaled, whole in zip(letterbox.scaled, source, strict=True):
        assert abs(scaled - whole * scale) <= 1


@given(sizes, targets, st.integers(1, 32))
def test_a_map_of_any_stride_holds_the_frame(source: tuple[int, int], target: tuple[int, int], stride: int) -> None:
    size = (-(-target[0] // stride), -(-target[1] // stride))
    inside = Letterbox.fit(source, target).scaled_in(size)
    assert all(1 <= part <= whole for part, whole in zip(inside, size, strict=True))


@given(sizes, targets)
def test_a_map_at_input_size_holds_the_frame_exactly(source: tuple[int, int], target: tuple[int, int]) -> None:
    letterbox = Letterbox.fit(source, target)
    assert letterbox.scaled_in(target) == letterbox.scaled


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(UsageError, match="0x5 pixels"):
        Letterbox.fit((5, 0), (384, 384))
