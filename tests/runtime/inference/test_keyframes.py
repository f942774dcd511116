"""Between key frames labels move along with the picture; whatever makes that wrong calls for the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.scripted import Scripted, frames, textured
from support.tiny_bundle import build

from ovs_edge.bundle.errors import UsageError
from ovs_edge.runtime.inference.frame_processor import ActiveClasses, Inferred, Prepared
from ovs_edge.runtime.inference.keyframes import Keyframes
from ovs_edge.runtime.segmenter import Segmenter

SIZE = (96, 128)
WIDE = textured(96, 256)


class Steps(Scripted):
    """A scripted segmenter with all three steps."""

    def finish(self, inferred: Inferred) -> object:  # type: ignore[override]
        return inferred


def _window(step: int) -> np.ndarray:
    """The camera pans to the right by four pixels a frame."""
    return np.ascontiguousarray(WIDE[:, 4 * step : 4 * step + 128])


def _object(step: int) -> np.ndarray:
    """Labels of a thing that stands at columns 60 to 100 of the panorama."""
    labels = np.zeros(SIZE, np.int32)
    labels[30:70, max(0, 60 - 4 * step) : 100 - 4 * step] = 1
    return labels


def _run(keyframes: Keyframes, images: list[np.ndarray]) -> list[Inferred]:
    return [keyframes.infer(keyframes.prepare(image)) for image in images]


def test_labels_move_with_the_picture() -> None:
    steps = Steps(SIZE, lambda count: _object(4 * count))
    found = _run(Keyframes(steps, 4), [_window(step) for step in range(8)])
    assert steps.calls == 2
    assert ["model" in inferred.timings for inferred in found] == [True, False, False, False] * 2
    assert all(inferred.timings["flow"] > 0 for inferred in found[1:4])
    for step, inferred in enumerate(found):
        mask, truth = inferred.labels[0] == 1, _object(step) == 1
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9, step
        assert inferred.labels.dtype == np.int32 and inferred.confidence[0, 40, 60] == pytest.approx(0.8)


def test_every_frame_is_exactly_the_network() -> None:
    steps = Steps(SIZE, _object)
    found = _run(Keyframes(steps, 1), [_window(step) for step in range(3)])
    for step, inferred in enumerate(found):
        np.testing.assert_array_equal(inferred.labels[0], _object(step))


def test_a_cut_new_classes_and_a_new_size_are_key_frames() -> None:
    steps = Steps(SIZE, lambda count: np.zeros(SIZE, np.int32))
    keyframes, dark = Keyframes(steps, 30), (_window(0) // 6).astype(np.uint8)
    _run(keyframes, [_window(0)] * 3)
    assert steps.calls == 1
    _run(keyframes, [dark] * 3)
    assert steps.calls == 2
    steps.change(["c"], version=2)
    found = _run(keyframes, [dark] * 3)
    assert steps.calls == 3 and all(inferred.active.version == 2 for inferred in found)
    _run(keyframes, [np.ascontiguousarray(dark[:40])] * 3)
    assert steps.calls == 4


def test_frames_too_thin_for_flow_are_key_frames() -> None:
    steps = Steps(SIZE, lambda count: np.zeros(SIZE, np.int32))
    _run(Keyframes(steps, 3), [textured(8, 128)] * 4)
    assert steps.calls == 4


@pytest.mark.parametrize("every", [0, -1, 31])
def test_impossible_numbers(every: int) -> None:
    with pytest.raises(UsageError, match="expected a number from 1 to 30"):
        Keyframes(Steps(SIZE, _object), every)


def test_panoptic_segments_cannot_be_carried(tmp_path: Path) -> None:
    with Segmenter.load(build(tmp_path / "panoptic.ovs", panoptic=True), threads=1) as segmenter:
        segmenter.set_classes("red")
        with pytest.raises(UsageError, match="--task semantic"):
            next(iter(segmenter.stream(frames([WIDE]), keyframes=2)))
        assert len(list(segmenter.stream(frames([WIDE] * 2), smooth=0.5))) == 2


def test_a_stream_shows_the_network_every_nth_frame(tiny_bundle: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 20:40, 2] = 255
    with Segmenter.load(tiny_bundle, threads=1) as segmenter:
        segmenter.set_classes("red")
        found = [prediction for _, prediction in segmenter.stream(frames([image] * 5), keyframes=2)]
    assert ["model" in prediction.timings for prediction in found] == [True, False, True, False, True]
    for prediction in found:
        np.testing.assert_array_equal(prediction.labels[:, 25:35], 0)
        np.testing.assert_array_equal(prediction.labels, found[0].labels)


def test_a_failing_network_leaves_the_next_frame_a_key_frame() -> None:
    class Failing(Steps):
        def infer(self, prepared: Prepared, active: ActiveClasses | None = None) -> Inferred:
            if self.calls == 1:
                self.calls += 1
                raise RuntimeError("out of memory")
            return super().infer(prepared, active)

    keyframes = Keyframes(Failing(SIZE, lambda count: _object(0)), 2)
    _run(keyframes, [_window(0)] * 2)
    with pytest.raises(RuntimeError, match="out of memory"):
        _run(keyframes, [_window(0)])
    assert "model" in _run(keyframes, [_window(0)])[0].timings
