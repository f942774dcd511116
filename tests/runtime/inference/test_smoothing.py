"""Smoothing steadies what stands still, follows what moves, and forgets what no longer holds."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted import Scripted, frames, textured

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.engines.session import RawOutputs
from ovs_edge.runtime.inference.frame_processor import Inferred
from ovs_edge.runtime.inference.prediction import Prediction
from ovs_edge.runtime.inference.smoothing import STRENGTH, TemporalSmoother
from ovs_edge.runtime.segmenter import Segmenter

SIZE = (64, 96)
STILL = textured(*SIZE)


def _constant(label: int) -> np.ndarray:
    return np.full(SIZE, label, np.int32)


def _changes(maps: list[np.ndarray]) -> int:
    return sum(int((before != now).sum()) for before, now in pairwise(maps))


def _shown(smoother: TemporalSmoother, scripted: Scripted, images: list[np.ndarray]) -> list[np.ndarray]:
    return [smoother.apply(scripted.see(image)).labels[0] for image in images]


def test_flicker_of_unmoving_pixels_is_gone_despite_noise() -> None:
    rng = np.random.default_rng(1)
    noisy = [np.clip(STILL + rng.normal(0, 8, STILL.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    # Each pixel is class 0, and now and then class 1.
    answers = [(rng.random(SIZE) < 0.2).astype(np.int32) for _ in noisy]
    answers[0][:] = 0
    shown = _shown(TemporalSmoother(), Scripted(SIZE, answers.__getitem__), noisy)
    assert _changes(shown) < 0.05 * _changes(answers)


def test_a_lasting_change_comes_through_after_the_documented_time() -> None:
    scripted = Scripted(SIZE, lambda count: _constant(0 if count < 10 else 1))
    shown = _shown(TemporalSmoother(0.85), scripted, [STILL] * 20)
    assert [int(labels[5, 5]) for labels in shown] == [0] * 15 + [1] * 5


def test_with_full_strength_a_wrong_label_still_gives_way() -> None:
    scripted = Scripted(SIZE, lambda count: _constant(int(count > 0)))
    assert _shown(TemporalSmoother(1), scripted, [STILL] * 60)[-1].min() == 1


def test_what_moves_follows_at_once() -> None:
    """A bright square jumps by its own width in every frame, and its label with it."""
    images, answers = [], []
    for step in range(6):
        image, labels = np.full((*SIZE, 3), 40, np.uint8), _constant(0)
        image[20:36, 16 * step : 16 * step + 16] = 220
        labels[20:36, 16 * step : 16 * step + 16] = 1
        images.append(image)
        answers.append(labels)
    for labels, truth in zip(
        _shown(TemporalSmoother(), Scripted(SIZE, answers.__getitem__), images), answers, strict=True
    ):
        np.testing.assert_array_equal(labels, truth)


def test_a_change_of_exposure_is_no_motion() -> None:
    images = [np.clip(STILL.astype(int) // 2 + 60 + 20 * (step % 2), 0, 255).astype(np.uint8) for step in range(8)]
    scripted = Scripted(SIZE, lambda count: _constant(count % 2))
    assert _changes(_shown(TemporalSmoother(), scripted, images)) == 0


def test_a_cut_new_classes_and_a_new_size_start_anew() -> None:
    smoother, scripted = TemporalSmoother(), Scripted(SIZE, lambda count: _constant(count // 4))
    dark = (STILL // 6).astype(np.uint8)
    wide = np.ascontiguousarray(STILL[:48])
    scripted.change(["a", "b", "c", "d", "e"])

    def settle(image: np.ndarray) -> list[int]:
        return [int(labels[5, 5]) for labels in _shown(smoother, scripted, [image] * 4)]

    assert settle(STILL) == [0] * 4
    assert settle(dark) == [1] * 4  # a cut
    scripted.change(["e", "d", "c", "b", "a"], version=2)
    assert settle(dark) == [2] * 4
    assert settle(wide) == [3] * 4
    assert settle(wide) == [3] * 4  # and without any of these the label stays


def test_confidence_is_that_of_the_shown_label() -> None:
    smoother, scripted = TemporalSmoother(0.85), Scripted(SIZE, lambda count: _constant(int(count == 3)))
    seen = [smoother.apply(replace(scripted.see(STILL), confidence=_confidence(0.9 - 0.1 * i))) for i in range(4)]
    values = [float(inferred.confidence[0, 5, 5]) for inferred in seen]
    assert values[0] == pytest.approx(0.9) and values[1] == pytest.approx(0.9 - 0.15 * 0.1)
    assert values[3] == values[2]  # contradicted: the last that was known


def _confidence(value: float) -> np.ndarray:
    return np.full((1, *SIZE), value, np.float32)


def test_background_classes_are_one() -> None:
    """Labels 2 and 3 are background: a pixel that changes between them keeps its evidence."""
    scripted = Scripted(SIZE, lambda count: _constant((2, 3, 2, 3, 2, 3, 0, 2)[count]))
    shown = _shown(TemporalSmoother(), scripted, [STILL] * 8)
    assert all((labels >= 2).all() for labels in shown)


def test_strength_zero_is_exactly_the_network() -> None:
    scripted = Scripted(SIZE, lambda count: _constant(count % 2))
    smoother = TemporalSmoother(0)
    for _ in range(3):
        inferred = scripted.see(STILL)
        assert smoother.apply(inferred) is inferred


def test_panoptic_frames_and_inputs_stay_as_they_are() -> None:
    scripted, smoother = Scripted(SIZE, lambda count: _constant(count % 2)), TemporalSmoother()
    empty = np.zeros((1, 1, 1, 1), np.float32)
    for _ in range(2):
        inferred = scripted.see(STILL)
        raw = RawOutputs(inferred.labels, inferred.confidence, empty, empty[0])
        assert smoother.apply(replace(inferred, raw=raw)).labels is inferred.labels
    for _ in range(4):
        inferred = scripted.see(STILL)
        copies = inferred.labels.copy(), inferred.confidence.copy()
        smoother.apply(inferred)
        np.testing.assert_array_equal(inferred.labels, copies[0])
        np.testing.assert_array_equal(inferred.confidence, copies[1])


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), dtype=st.sampled_from([np.uint8, np.int32, np.int64]),
    strength=st.floats(0, 1), part=st.sampled_from([1, 2]),
)  # fmt: skip
def test_any_frame_size_and_label_type(height: int, width: int, dtype: type, strength: float, part: int) -> None:
    """Also label maps of half the input's size."""
    smoother = TemporalSmoother(strength)
    scripted = Scripted((32, 32), lambda count: np.full((32 // part, 32 // part), count % 2, dtype))
    for seed in range(3):
        inferred = scripted.see(textured(height, width, seed))
        result: Inferred = smoother.apply(inferred)
        assert result.labels.dtype == dtype and result.labels.shape == inferred.labels.shape
        assert result.confidence.dtype == np.float32 and result.labels.max() <= 2


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_impossible_strengths(strength: float) -> None:
    with pytest.raises(UsageError, match="expected 0 .off. to 1"):
        TemporalSmoother(strength)


def test_a_frame_costs_little() -> None:
    size = (384, 384)
    image = textured(480, 640)
    scripted = Scripted(size, lambda count: np.full(size, count % 2, np.int32))
    smoother, times = TemporalSmoother(), []
    for _ in range(12):
        inferred = scripted.see(image)
        start = time.perf_counter()
        smoother.apply(inferred)
        times.append(time.perf_counter() - start)
    assert np.median(times) < 0.02  # a tenth of that where nothing else runs


def test_a_stream_is_smoothed_and_single_images_are_not(tiny_bundle: Path) -> None:
    """Grey that is now a little more red, now a little more green: too little to be a change of the picture."""
    images = [np.full((48, 64, 3), 100, np.uint8) for _ in range(8)]
    for index, image in enumerate(images):
        image[..., 1 + index % 2] += 3
    with Segmenter.load(tiny_bundle, background="none", threshold=0, threads=1) as segmenter:
        segmenter.set_classes("red,green")

        def labels(smooth: float) -> list[int]:
            found: list[Prediction] = [prediction for _, prediction in segmenter.stream(frames(images), smooth)]
            return [int(prediction.labels[20, 20]) for prediction in found]

        assert labels(0) == [1, 0] * 4
        assert labels(STRENGTH) == [1] * 8
        assert int(segmenter.predict(images[1]).labels[20, 20]) == 0


def test_a_stream_is_smoothed_once(tiny_bundle: Path) -> None:
    seen: list[Inferred] = []

    class Counting:
        def apply(self, inferred: Inferred) -> Inferred:
            seen.append(inferred)
            return inferred

    shown = frames([np.zeros((48, 64, 3), np.uint8)] * 3)
    with Segmenter.load(tiny_bundle, threads=1) as segmenter:
        segmenter.set_classes("red")
        segmenter.smoother = Counting()
        assert len(list(segmenter.stream(shown))) == 3 and len(seen) == 3
        assert len(list(segmenter.stream(shown, smooth=0.9))) == 3 and len(seen) == 3
