"""Edges and specks: labels follow the frame, small regions go, and what is sure stays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.letterbox import Letterbox
from ovs_edge.runtime.inference.refinement import Refinement, follow_edges, without_small_regions
from ovs_edge.runtime.segmenter import Segmenter

HEIGHT, WIDTH = 480, 640
SIZE = (384, 512)  # of the network's input: the frame fits without padding


def _slanted() -> tuple[np.ndarray, np.ndarray]:
    """A frame that is dark left of a slanted edge, and the truth."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    truth = (columns > 200 + rows // 2).astype(np.int32)
    image = np.where(truth[..., None] > 0, (40, 180, 90), (60, 30, 120)).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 12, image.shape, dtype=np.uint8)
    return image + noise, truth


def _coarse(truth: np.ndarray, shift: int) -> np.ndarray:
    """The truth in blocks of 16 pixels at the network's size, moved to the right."""
    small = cv2.resize(truth, (SIZE[1] // 16, SIZE[0] // 16), interpolation=cv2.INTER_NEAREST)
    return np.roll(cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_NEAREST), shift, 1)


def test_labels_follow_the_edge_of_the_frame() -> None:
    """Blocks beside the edge are decided again; nine in ten of the wrong pixels become right."""
    image, truth = _slanted()
    labels = _coarse(truth, 6)
    frame = cv2.resize(labels, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST_EXACT)
    before = (frame != truth)[:, 100:].mean()
    refined = follow_edges(
        labels, frame, np.full((HEIGHT, WIDTH), 0.3, np.float32), image, Letterbox.fit((HEIGHT, WIDTH), SIZE)
    )
    after = (refined != truth)[:, 100:].mean()
    assert before > 0.01
    assert after < 0.1 * before
    assert refined.dtype == np.int32


def test_what_is_sure_stays() -> None:
    """Nothing changes above the confidence, and the arrays given are not written to."""
    image, truth = _slanted()
    labels = _coarse(truth, 6)
    frame = cv2.resize(labels, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST_EXACT)
    kept = frame.copy()
    letterbox = Letterbox.fit((HEIGHT, WIDTH), SIZE)
    sure = np.full((HEIGHT, WIDTH), 0.9, np.float32)
    np.testing.assert_array_equal(follow_edges(labels, frame, sure, image, letterbox), kept)
    sure[: HEIGHT // 2] = 0.1
    refined = follow_edges(labels, frame, sure, image, letterbox)
    np.testing.assert_array_equal(refined[HEIGHT // 2 :], kept[HEIGHT // 2 :])
    assert (refined != kept).any()
    np.testing.assert_array_equal(frame, kept)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 3), (333, 77), (1080, 1920)])
def test_frames_of_every_size(size: tuple[int, int]) -> None:
    """Labels are always those that the network gave."""
    rng = np.random.default_rng(1)
    letterbox = Letterbox.fit(size, (96, 128))
    labels = rng.integers(-1, 3, (96, 128)).astype(np.int32)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    frame = np.zeros(size, np.int32)
    refined = follow_edges(labels, frame, np.zeros(size, np.float32), image, letterbox)
    assert refined.shape == size
    assert set(np.unique(refined)) <= {-1, 0, 1, 2}


def test_specks_and_holes_take_the_label_around_them() -> None:
    """A speck on the background goes, a hole in a class is filled, a large part stays."""
    labels = np.full((100, 100), -1, np.int32)
    labels[20:80, 50:90] = 2
    labels[40:43, 60:63] = -1  # a hole
    labels[5:8, 5:8] = 1  # a speck
    labels[50, 49] = 3  # a speck that touches two
    cleaned = without_small_regions(labels, 0.002)
    expected = np.full((100, 100), -1, np.int32)
    expected[20:80, 50:90] = 2
    cleaned[50, 49] = -1
    np.testing.assert_array_equal(cleaned, expected)
    np.testing.assert_array_equal(without_small_regions(labels, 0.0), labels)
    np.testing.assert_array_equal(without_small_regions(labels, 0.99), labels)  # nothing would be left


def test_the_segmenter_refines(tiny_bundle: Path) -> None:
    """Set at any time: a speck of red in a green frame is gone, and comes back when the refinement is taken off."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[..., 1] = 255
    image[40:44, 60:64] = (0, 0, 255)
    with Segmenter.load(tiny_bundle, refinement=Refinement(least_region=0.01)) as segmenter:
        segmenter.set_classes("red,green")
        assert not segmenter.predict(image).mask("red").any()
        segmenter.refinement = Refinement(edges=True)
        assert segmenter.predict(image).mask("red").any()
        segmenter.refinement = Refinement()
        assert segmenter.predict(image).mask("red").sum() == 16


def test_a_share_out_of_range_is_refused() -> None:
    """One clear line."""
    with pytest.raises(UsageError, match=r"the least region is 1\.5, expected a share"):
        Refinement(least_region=1.5)
