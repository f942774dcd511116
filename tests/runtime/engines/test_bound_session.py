"""Inputs and outputs bound on a device, on the CPU provider: the same labels as the plain session, whatever changes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from support import tiny_bundle as tiny

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import BundleError, UsageError
from ovs_edge.runtime.engines.bound_session import BoundOnnxSession
from ovs_edge.runtime.engines.engine import EngineOptions
from ovs_edge.runtime.engines.onnx_runtime import OnnxSession
from ovs_edge.runtime.segmenter import Segmenter, SegmenterOptions
from ovs_edge.runtime.vocabulary.text_encoder import TextEncoder


def _bound(bundle: Bundle, *, graphs: bool) -> BoundOnnxSession:
    path = bundle.graph("fp32")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return BoundOnnxSession(session, path, bundle.manifest.graph, device="cpu", graphs=graphs)


@pytest.mark.parametrize("graphs", [False, True])
def test_labels_are_those_of_the_plain_session(tiny_bundle: Path, *, graphs: bool) -> None:
    """For one class and for as many as the bundle takes, with the same vectors and other ones, to and fro."""
    bundle = Bundle.open(tiny_bundle)
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (7, 3), (tiny.MAX_CLASSES, 2), (7, 3), (8, 4), (1, 1)]
    vocabularies = [rng.standard_normal((*shape, 3)).astype(np.float32) for shape in shapes]
    kept = []
    with OnnxSession(bundle, EngineOptions(threads=1, provider="cpu")) as plain, _bound(bundle, graphs=graphs) as bound:
        for vectors in vocabularies:
            for _ in range(2):
                image = rng.integers(0, 256, (1, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
                expected, found = plain.run(image, vectors), bound.run(image, vectors)
                for one, other in zip(found, expected, strict=True):
                    np.testing.assert_array_equal(one, other)
                kept.append((found[0], expected[0]))
        assert list(bound.timings) == ["upload", "infer", "download"]
    # What was handed out stays as it was.
    for found, expected in kept:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("graphs", [False, True])
def test_queries_are_those_of_the_plain_session(tmp_path: Path, *, graphs: bool) -> None:
    """The padding of a panoptic graph's classes is cut out again."""
    bundle = Bundle.open(tiny.build(tmp_path / "panoptic.ovs", panoptic=True))
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (1, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    vectors = rng.standard_normal((5, 2, 3)).astype(np.float32)
    with OnnxSession(bundle, EngineOptions(threads=1, provider="cpu")) as plain, _bound(bundle, graphs=graphs) as bound:
        expected, found = plain.run_raw(image, vectors), bound.run_raw(image, vectors)
    for name in ("labels", "confidence", "mask_logits", "class_logits"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("size", [(1, 1), (640, 360), (2160, 3840), (48, 64)])
def test_frames_of_every_size(tiny_bundle: Path, size: tuple[int, int]) -> None:
    """Behind the segmenter, predictions of odd sizes are those of the CPU session."""
    bundle = Bundle.open(tiny_bundle)
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)
    predictions = []
    with OnnxSession(bundle, EngineOptions(threads=1, provider="cpu")) as plain, _bound(bundle, graphs=True) as bound:
        for session in (plain, bound):
            segmenter = Segmenter(bundle.manifest, session, TextEncoder(bundle), SegmenterOptions())
            segmenter.set_classes("red,green")
            predictions.append(segmenter.predict(image))
    np.testing.assert_array_equal(predictions[0].labels, predictions[1].labels)
    assert predictions[1].labels.shape == size


@pytest.mark.parametrize("graphs", [False, True])
def test_two_frames_in_flight(tiny_bundle: Path, *, graphs: bool) -> None:
    """Threads with images and classes of their own get the labels of the plain session, whoever is first."""
    bundle = Bundle.open(tiny_bundle)
    rng = np.random.default_rng(3)
    work = [
        (
            rng.integers(0, 256, (1, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8),
            rng.standard_normal((2 + index % 3, 1 + index % 2, 3)).astype(np.float32),
        )
        for index in range(24)
    ]
    with OnnxSession(bundle, EngineOptions(threads=1, provider="cpu")) as plain, _bound(bundle, graphs=graphs) as bound:
        assert bound.at_once == (1 if graphs else 2)  # nothing else may happen while kernels are recorded
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda item: bound.run(*item), work))
        for item, answer in zip(work, found, strict=True):
            for one, other in zip(answer, plain.run(*item), strict=True):
                np.testing.assert_array_equal(one, other)


def test_a_failure_is_one_line_and_no_state_is_left(tiny_bundle: Path) -> None:
    """After vectors of a wrong length the next run is right; after the end there is none."""
    bundle = Bundle.open(tiny_bundle)
    image = np.zeros((1, tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    right, wrong = np.eye(3, dtype=np.float32)[:, None], np.ones((3, 1, 4), np.float32)
    with _bound(bundle, graphs=False) as bound:
        expected = bound.run(image, right)
        with pytest.raises(BundleError, match=r"failed on image \[1, 48, 64, 3\], text_embeddings \[3, 1, 4\]"):
            bound.run(image, wrong)
        np.testing.assert_array_equal(bound.run(image, right)[0], expected[0])
    with pytest.raises(UsageError, match="the segmenter is closed"):
        bound.run(image, right)
