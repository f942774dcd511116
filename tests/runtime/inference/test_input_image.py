"""What `predict` takes for a picture: each form gives the same pixels, everything else one clear error."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ovs_edge.bundle.errors import SourceError, UsageError
from ovs_edge.runtime.inference import input_image
from ovs_edge.runtime.inference.input_image import as_bgr
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.segmenter import Segmenter

BGR = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
RGB = BGR[:, :, ::-1]
GREY = BGR[:, :, 0]


@pytest.mark.parametrize(
    ("image", "rgb"),
    [
        (BGR, False),
        (RGB, True),
        (np.asfortranarray(BGR), False),
        (np.dstack([BGR, GREY]), False),
        (np.dstack([RGB, GREY]), True),
        (BGR.astype(np.uint16) * 257, False),
        (BGR.astype(np.float32) / 255, False),
        ((BGR.astype(np.uint16) * 257).astype(">u2"), False),
        ((BGR / 255).astype(">f4"), False),
        ((BGR / 255).astype(">f8"), False),
        (BGR.astype(np.float64) / 255, False),
        (RGB.astype(np.float32) / 255, True),
        (Image.fromarray(RGB), False),
        (Image.fromarray(RGB), True),
        (Image.fromarray(np.dstack([RGB, GREY])), False),
    ],
)
def test_forms_of_one_picture(image: Any, rgb: bool) -> None:
    found = as_bgr(image, rgb=rgb)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    np.testing.assert_array_equal(found, BGR)


@pytest.mark.parametrize(
    "image",
    [
        GREY,
        GREY[:, :, None],
        GREY.astype(np.uint16) * 257,
        GREY / 255,
        Image.fromarray(GREY),
        Image.fromarray(GREY.astype(np.uint16) * 257),
    ],
)
def test_grey_is_repeated(image: Any) -> None:
    np.testing.assert_array_equal(as_bgr(image), np.dstack([GREY] * 3))


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    file.write_bytes(cv2.imencode(".png", BGR)[1].tobytes())
    for path in (file, str(file)):
        np.testing.assert_array_equal(as_bgr(path), BGR)
    with pytest.raises(SourceError, match="cannot read"):
        as_bgr(tmp_path / "nothing.png")


@pytest.mark.parametrize(
    ("image", "kind", "says"),
    [
        (BGR.tolist(), TypeError, "NumPy array"),
        (None, TypeError, "NoneType"),
        (BGR.astype(np.int32), TypeError, "int32"),
        (BGR > 100, TypeError, "bool"),
        (BGR.astype(np.complex64), TypeError, "complex64"),
        (BGR / 255 - 0.5, ValueError, "expected 0 to 1"),
        (BGR.astype(np.float32), ValueError, r"for 0 to 255 use image\.astype\(numpy\.uint8\)"),
        (BGR / 127.5 - 1, ValueError, r"it looks normalised; undo it, e\.g\. image \* std \+ mean"),
        ((BGR / 255 - 0.45) / 0.22, ValueError, "it looks normalised"),
        (BGR / 255 * 1.1 - 0.05, ValueError, r"numpy\.clip\(image, 0, 1\)"),
        (BGR - 128.0, ValueError, "shift and scale it to 0 to 1"),
        (BGR * 257.0, ValueError, "such as 65535"),
        (BGR / 255 * 0.003, ValueError, "floats from 0 to 0.003 only, of 0 to 1, and would show next to nothing"),
        ((BGR / 255 / 16).astype(np.float16), ValueError, "would show next to nothing"),
        (np.full((4, 4, 3), np.nan), ValueError, "NaN"),
        (BGR.transpose(2, 0, 1), ValueError, "transpose"),
        (BGR[None], ValueError, "one picture at a time"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "shape"),
        (np.zeros(7, np.uint8), ValueError, "shape"),
        (BGR.astype(np.uint16) + 28000, ValueError, "values 28"),
        (Image.fromarray(GREY.astype(np.float32)), ValueError, "mode F"),
    ],
)
def test_everything_else_is_refused(image: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says) as raised:
        as_bgr(image)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("shape", "kind"), [((30_000, 30_000, 3), np.float64), ((1, 40_000), np.uint8), ((12_000, 12_000, 3), np.uint8)]
)
def test_pictures_beyond_the_bound_cost_nothing(shape: tuple[int, ...], kind: type) -> None:
    image = np.broadcast_to(np.zeros((), kind), shape)
    start = time.process_time()
    with pytest.raises(
        ValueError, match=f"has {shape[1]}x{shape[0]} pixels, expected at most 134,217,728.*scale it down"
    ):
        as_bgr(image)
    assert time.process_time() - start < 0.5


def test_photos_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_image, "MOST_PIXELS", 200)
    file = tmp_path / "photo.png"
    file.write_bytes(cv2.imencode(".png", BGR)[1].tobytes())
    for image in (file, Image.fromarray(RGB), BGR):
        with pytest.raises(ValueError, match="has 20x12 pixels"):
            as_bgr(image)


def test_a_long_side_and_dark_floats_are_taken() -> None:
    assert as_bgr(np.zeros((2, 32_767), np.uint8)).shape == (2, 32_767, 3)
    dark = np.linspace(0, 0.1, 240).reshape(12, 20)
    np.testing.assert_array_equal(as_bgr(dark)[:, :, 0], np.rint(dark * 255))


@given(
    st.sampled_from(["uint8", "uint16", ">u2", ">f4", "int64", "float32", "float64", "bool"]),
    st.lists(st.integers(0, 5), min_size=0, max_size=4),
)
def test_any_array_is_converted_or_refused(dtype: str, shape: list[int]) -> None:
    image: npt.NDArray[Any] = np.ones(shape, dtype)
    try:
        found = as_bgr(image)
    except (TypeError, ValueError):
        return
    assert found.shape == (*shape[:2], 3) and found.dtype == np.uint8


def test_predict_takes_them_and_a_closed_segmenter_says_so(tiny_bundle: Path) -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, :40, 2], image[:, 40:, 0] = 255, 255  # red and blue
    with Segmenter.load(tiny_bundle, threads=1) as segmenter:
        segmenter.set_classes("red,blue")
        expected = segmenter.predict(image).labels
        assert set(np.unique(expected)) == {0, 1}
        np.testing.assert_array_equal(segmenter.predict(image[:, :, ::-1], rgb=True).labels, expected)
        np.testing.assert_array_equal(segmenter.predict(Image.fromarray(image[:, :, ::-1])).labels, expected)
        with pytest.raises(ValueError, match="shape"):
            segmenter.predict(image[0, 0])
    for late in (
        lambda: segmenter.predict(image),
        lambda: segmenter.set_classes("red"),
        lambda: segmenter.add_example("red", image, box=(0, 0, 9, 9)),
    ):
        with pytest.raises(UsageError, match="is closed"):
            late()
    segmenter.close()
