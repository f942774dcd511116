"""Colours, text and drawing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.draw import text as lettering
from ovs_edge.runtime.draw.overlay import Style, draw, fill
from ovs_edge.runtime.draw.palette import _bgr_to_oklab, _oklab_to_bgr, colours, text_colour
from ovs_edge.runtime.draw.text import draw_text, drawable, text_width
from ovs_edge.runtime.inference.prediction import NOTHING, Prediction
from ovs_edge.runtime.status import Status

WORDS = (
    "person",
    "cat",
    "cup",
    "sky",
    "dog",
    "car",
    "tree",
    "road",
    "building",
    "grass",
    "water",
    "chair",
    "table",
    "book",
    "bird",
)


def prediction(labels: np.ndarray, classes: tuple[str, ...]) -> Prediction:
    return Prediction(labels.astype(np.int32), np.ones(labels.shape, np.float32), classes)


def test_a_name_keeps_its_colour() -> None:
    alone = {word: tuple(colours((word,))[0]) for word in WORDS}
    assert [tuple(row) for row in colours(("cat", "car"))] == [alone["cat"], alone["car"]]
    assert tuple(colours(("CAT",))[0]) == alone["cat"]
    kept = sum(tuple(row) == alone[word] for word, row in zip(WORDS, colours(WORDS), strict=True))
    assert kept >= 5  # the others had to make way for a neighbour of their colour


def test_no_two_classes_look_alike() -> None:
    lab = _bgr_to_oklab(colours(WORDS))
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 9 * np.eye(len(WORDS))
    assert distances.min() > 0.11
    many = colours(tuple(f"name {index}" for index in range(60)))
    assert len({tuple(row) for row in many}) == 60
    assert colours(tuple(f"name {index}" for index in range(600))).shape == (600, 3)


def test_colour_conversion_is_its_own_inverse() -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (200, 3), np.uint8)
    np.testing.assert_array_equal(_oklab_to_bgr(_bgr_to_oklab(bgr)), bgr)


def test_text_contrasts_with_its_ground() -> None:
    assert text_colour(np.array([255, 255, 255], np.uint8)) == (20, 20, 20)
    assert text_colour(np.array([120, 20, 20], np.uint8)) == (255, 255, 255)


@pytest.mark.parametrize("scalable", [True, False])
@pytest.mark.parametrize(
    "name", ["person", "café", "🙂", "👩‍🚀 astronaut", "猫", "\ud800", "x" * 300, "\u202e", "a{}%s", "é" * 50]
)
def test_every_name_can_be_drawn(monkeypatch: pytest.MonkeyPatch, name: str, scalable: bool) -> None:
    if scalable and not lettering._SCALABLE:
        pytest.skip("this OpenCV has Hershey fonts only")
    monkeypatch.setattr(lettering, "_SCALABLE", scalable)
    drawable.cache_clear()
    text = drawable(name)
    drawable.cache_clear()
    assert 1 <= len(text) <= 28
    assert scalable or text.isascii()
    canvas = np.zeros((40, 600, 3), np.uint8)
    draw_text(canvas, text, (10, 30), 20, (255, 255, 255))
    assert canvas.any() and text_width(text, 20) > 0


def test_emoji_are_written_by_name() -> None:
    assert drawable("🙂") == "slightly smiling face"


def test_the_fill_tints_what_is_labelled_and_nothing_else() -> None:
    image = np.full((10, 10, 3), 100, np.uint8)
    labels = np.full((10, 10), NOTHING)
    labels[:5] = 0
    filled = fill(image, prediction(labels, ("cat",)), 0.5)
    assert (filled[5:] == 100).all() and (image == 100).all()
    np.testing.assert_allclose(filled[0, 0], (100 + colours(("cat",))[0].astype(float)) / 2, atol=1)


def test_more_classes_than_a_byte_counts() -> None:
    classes = tuple(f"name {index}" for index in range(300))
    labels = np.full((10, 10), 299)
    filled = fill(np.zeros((10, 10, 3), np.uint8), prediction(labels, classes), 1)
    assert (filled == colours(classes)[299]).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (30, 4000), (4000, 30), (130, 130), (480, 640), (1080, 1920)])
def test_a_picture_of_any_size(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    labels = np.full(shape, NOTHING)
    labels[: shape[0] // 2 + 1, : shape[1] // 2 + 1] = 1
    drawn = draw(image, prediction(labels, ("猫", "🙂", "x" * 300)), Style(), Status(fps=123.4))
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (drawn != image).any()


def test_nothing_found_leaves_the_picture() -> None:
    image = np.full((480, 640, 3), 100, np.uint8)
    nothing = prediction(np.full((480, 640), NOTHING), ("cat",))
    drawn = draw(image, nothing, Style())
    assert (drawn[240:] == 100).all() and (drawn[:240, :320] != 100).any()  # the legend alone
    assert (draw(image, nothing, Style(legend=False)) == 100).all()


def test_many_classes_leave_room_for_the_picture() -> None:
    image = np.full((480, 640, 3), 100, np.uint8)
    classes = tuple(f"name {index}" for index in range(200))
    drawn = draw(image, prediction(np.full((480, 640), NOTHING), classes), Style(), Status(fps=30))
    assert (drawn[260:] == 100).all()


def test_an_outline_ends_at_the_picture() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    whole = prediction(np.zeros((480, 640)), ("cat",))
    drawn = draw(image, whole, Style(names=False, legend=False))
    assert (drawn == drawn[0, 0]).all()


def test_names_stand_on_their_regions() -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    labels = np.full((480, 640), NOTHING)
    labels[300:440, 400:600] = 0
    plain = draw(image, prediction(labels, ("cat",)), Style(names=False))
    named = draw(image, prediction(labels, ("cat",)), Style())
    ys, xs = np.nonzero((plain != named).any(axis=2))
    assert ys.min() > 300 and ys.max() < 440 and xs.min() > 400 and xs.max() < 600
    assert abs(ys.mean() - 370) < 20


def test_an_opacity_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="opacity"):
        Style(opacity=2)


def test_a_class_takes_the_colour_that_a_user_chose() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    style = Style(opacity=1, outlines=False, colours={"cat": (1, 2, 3)})
    drawn = draw(image, prediction(np.array([[0, 0, 1, 1]] * 4), ("cat", "dog")), style)
    assert drawn[0, 0].tolist() == [1, 2, 3]
    assert drawn[0, 3].tolist() == colours(("cat", "dog"))[1].tolist() != [1, 2, 3]


def test_a_hidden_class_is_not_painted_but_listed() -> None:
    image = np.full((480, 640, 3), 100, np.uint8)
    labels = np.full((480, 640), NOTHING)
    labels[300:400, :300], labels[300:400, 300:] = 0, 1
    found = prediction(labels, ("cat", "dog"))
    drawn = draw(image, found, Style(hidden=frozenset({"cat"})))
    assert (drawn[320:380, :280] == 100).all() and (drawn[320:380, 320:620] != 100).any()
    assert (drawn[:240, :320] != 100).any()
    assert (draw(image, found, Style(hidden=frozenset({"cat", "dog"}), legend=False)) == 100).all()
