"""The resizes around the network as ONNX operators, on the CPU provider: what OpenCV gives, for frames of every size."""

from __future__ import annotations

import dataclasses
import gc
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from support import tiny_bundle as tiny

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.letterbox import Letterbox
from ovs_edge.export.frame_graphs import write_frame_graphs
from ovs_edge.models import default_bundle
from ovs_edge.runtime import device_frames
from ovs_edge.runtime.device_frames.pinned import PinnedMemory
from ovs_edge.runtime.device_frames.resizer import DeviceFrames
from ovs_edge.runtime.engines.bound_session import BoundOnnxSession
from ovs_edge.runtime.engines.engine import EngineOptions
from ovs_edge.runtime.engines.onnx_runtime import OnnxSession, open_graph
from ovs_edge.runtime.inference.preprocess import to_frame, to_input
from ovs_edge.runtime.inference.refinement import Refinement
from ovs_edge.runtime.inference.smoothing import TemporalSmoother
from ovs_edge.runtime.segmenter import Segmenter, SegmenterOptions
from ovs_edge.runtime.vocabulary.text_encoder import TextEncoder

INPUT = (96, 128)
# One pixel, a line, portrait, the input's own size, twice and four times as large, fractions, 4K.
SIZES = [
    (1, 1),
    (1, 1000),
    (700, 2),
    (640, 360),
    (96, 128),
    (97, 128),
    (192, 256),
    (384, 512),
    (233, 777),
    (2160, 3840),
]


@pytest.fixture(scope="module")
def frames() -> DeviceFrames:
    return DeviceFrames(lambda path: open_graph(path, 1), "cpu")


def _photo(size: tuple[int, int], seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise on smooth colours: resizes that differ show."""
    rng = np.random.default_rng(seed)
    smooth = cv2.resize(rng.integers(0, 200, (9, 9, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.add(smooth.reshape(*size, 3), rng.integers(0, 56, (*size, 3), np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_both_resizes_are_opencvs(frames: DeviceFrames, size: tuple[int, int]) -> None:
    """Input bytes, labels and confidence; few bytes of the input may differ by one, where a sum lies at a half."""
    image = _photo(size)
    expected, letterbox = to_input(image, INPUT)
    resized = frames.to_input(image, INPUT)
    if resized is not None:
        assert resized[1] == letterbox
        apart = np.abs(resized[0].astype(np.int16) - expected)
        assert apart.max() <= 1
        assert (apart > 0).mean() < 1e-3
    else:
        assert letterbox.scaled[0] * letterbox.scaled[1] >= size[0] * size[1]
    rng = np.random.default_rng(1)
    labels, confidence = rng.integers(-1, 20, INPUT, np.int32), rng.random(INPUT, np.float32)
    found, score = frames.to_frame(labels, confidence, letterbox, np.zeros(21, np.float32))
    expected_labels, expected_score = to_frame(labels, confidence, letterbox)
    np.testing.assert_array_equal(found, expected_labels)
    assert found.dtype == np.int32
    np.testing.assert_allclose(score, expected_score, atol=1e-4)


@pytest.mark.parametrize("classes", [1, 254, 255, 256, 512])
def test_thresholds_of_classes(frames: DeviceFrames, classes: int) -> None:
    """For labels in bytes and in integers, each class has a threshold of its own; no label stays no label."""
    rng = np.random.default_rng(classes)
    labels, confidence = rng.integers(-1, classes, INPUT, np.int32), rng.random(INPUT, np.float32)
    labels[:2] = classes - 1
    thresholds = rng.random(classes + 1, np.float32)
    letterbox = Letterbox.fit((300, 411), INPUT)
    found, score = frames.to_frame(labels, confidence, letterbox, thresholds)
    expected, _ = to_frame(labels, confidence, letterbox)
    expected[score < thresholds[expected]] = -1
    np.testing.assert_array_equal(found, expected)
    assert {-1, classes - 1} <= set(np.unique(found).tolist())


def _predict(
    session: Any,
    bundle: Bundle,
    image: npt.NDArray[np.uint8],
    classes: str,
    *,
    frames: DeviceFrames | None = None,
    **options: Any,
) -> Any:
    """What a segmenter says of a frame; with `frames`, of the input that these make of it."""
    segmenter = Segmenter(bundle.manifest, session, TextEncoder(bundle), SegmenterOptions(**options))
    segmenter.set_classes(classes)
    prepared = segmenter.prepare(image)
    resized = None if frames is None else frames.to_input(image, bundle.manifest.input_size)
    if resized is not None:
        prepared = dataclasses.replace(prepared, tensor=resized[0])
    return segmenter.finish(segmenter.infer(prepared))


def _on_device(bundle: Bundle, frames: DeviceFrames, *, graphs: bool) -> BoundOnnxSession:
    path = bundle.graph("fp32")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return BoundOnnxSession(session, path, bundle.manifest.graph, device="cpu", graphs=graphs, frames=frames)


@pytest.mark.parametrize("graphs", [False, True])
def test_predictions_are_those_of_the_cpu(frames: DeviceFrames, *, graphs: bool) -> None:
    """The embedded model, all steps: labels of at least 99.9 % of the pixels are equal, for one class and 512 names."""
    bundle = Bundle.open(default_bundle())
    many = ",".join(f"thing {index}" for index in range(40)) + ",person,dog:0.2,car:0.5"
    with (
        OnnxSession(bundle, EngineOptions(provider="cpu")) as plain,
        _on_device(bundle, frames, graphs=graphs) as bound,
    ):
        for size, classes in (((1, 1), "person"), ((640, 360), "person"), ((2160, 3840), many), ((500, 700), many)):
            image = _photo(size)
            expected = _predict(plain, bundle, image, classes)
            found = _predict(bound, bundle, image, classes)
            assert found.labels.shape == found.confidence.shape == size
            assert (found.labels == expected.labels).mean() >= 0.999
            # At 4K, 425 of 442,368 input bytes differ by one; on this noise that moves confidences by 0.0011.
            assert np.abs(found.confidence - expected.confidence).mean() < 2e-3
            same_input = _predict(plain, bundle, image, classes, frames=frames)
            assert np.abs(found.confidence - same_input.confidence).mean() < 1e-5


@pytest.mark.parametrize("classes", [1, 512])
def test_one_class_and_512(tiny_bundle: Path, tmp_path: Path, frames: DeviceFrames, classes: int) -> None:
    """Labels beyond a byte, and one alone, through network and both resizes."""
    graph = dataclasses.replace(Bundle.open(tiny_bundle).manifest.graph, max_classes=512)
    bundle = Bundle.open(tiny.build(tmp_path / "many.ovs", graph=graph))
    # Mixtures of colours, the last of which are the pure ones.
    mixed = [f"red {' '.join(['green'] * (index % 23))} n{index}" for index in range(509)]
    names = ",".join([*mixed, "red", "green", "blue"][-classes:])
    image = _photo((211, 97))
    with OnnxSession(bundle, EngineOptions(provider="cpu")) as plain, _on_device(bundle, frames, graphs=True) as bound:
        expected = _predict(plain, bundle, image, names, background="none")
        found = _predict(bound, bundle, image, names, background="none")
    assert (found.labels == expected.labels).mean() >= 0.999
    assert len(found.classes) == classes


def test_refined_and_smoothed_frames(tiny_bundle: Path, frames: DeviceFrames) -> None:
    """What works on the maps between the two resizes has the same effect on a device."""
    bundle = Bundle.open(tiny_bundle)
    with OnnxSession(bundle, EngineOptions(provider="cpu")) as plain, _on_device(bundle, frames, graphs=False) as bound:
        results = []
        for session in (plain, bound):
            segmenter = Segmenter(bundle.manifest, session, TextEncoder(bundle), SegmenterOptions())
            segmenter.set_classes("red,green:0.4")
            segmenter.smoother = TemporalSmoother(0.9)
            smoothed = [segmenter.predict(_photo((120, 90), seed)).labels for seed in (0, 0, 1)]
            segmenter.refinement = Refinement(edges=True, least_region=0.01)
            results.append([*smoothed, segmenter.predict(_photo((120, 90))).labels])
    for one, other in zip(*results, strict=True):
        assert (one == other).mean() >= 0.999


def test_the_graphs_are_those_of_their_generator(tmp_path: Path) -> None:
    folder = Path(str(device_frames.__file__)).parent
    written = write_frame_graphs(tmp_path)
    assert sorted(path.name for path in written) == sorted(path.name for path in folder.glob("*.onnx"))
    for path in written:
        assert path.read_bytes() == (folder / path.name).read_bytes()


class FakeDriver:
    """`libcuda` with memory of the CPU. Counts what is allocated and which context is current."""

    def __init__(self, most: int = 10**9) -> None:
        self.blocks: dict[int, Any] = {}
        self.freed: list[int] = []
        self.depth, self.most = 0, most

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            if name == "cuMemHostAlloc":
                assert self.depth == 1
                size = arguments[1].value
                if size > self.most:
                    return 2  # CUDA_ERROR_OUT_OF_MEMORY
                block = np.zeros(size, np.uint8)
                self.blocks[block.ctypes.data] = block
                arguments[0]._obj.value = block.ctypes.data
            if name == "cuMemFreeHost":
                assert self.depth == 1
                self.freed.append(arguments[0].value)
            self.depth += {"cuCtxPushCurrent_v2": 1, "cuCtxPopCurrent_v2": -1}.get(name, 0)
            return 0

        return call


def test_pinned_memory_is_used_again_when_nobody_holds_it() -> None:
    driver = FakeDriver()
    memory = PinnedMemory(driver)
    first = memory.empty((4, 5), np.float32)
    assert first.ctypes.data in driver.blocks
    first[...] = 7
    view, address = first[1:], first.ctypes.data
    del first
    gc.collect()
    second = memory.empty((4, 5), np.float32)
    assert second.ctypes.data != address  # a view of the first is still held
    assert (view == 7).all()
    del view
    gc.collect()
    assert memory.empty((20,), np.float32).ctypes.data == address
    assert driver.depth == 0
    for size in range(1, 30):  # sizes that do not come back are freed in the end
        memory.empty((size,), np.uint8)
    assert len(driver.freed) >= 20


def test_where_no_memory_can_be_locked_arrays_are_ordinary_ones() -> None:
    driver = FakeDriver(most=10)
    memory = PinnedMemory(driver)
    assert memory.empty((10,), np.uint8).base is not None
    ordinary = memory.empty((11,), np.uint8)
    assert (ordinary.shape, ordinary.base) == ((11,), None)


def test_frames_through_pinned_memory(frames: DeviceFrames) -> None:
    """Results that are held stay as they are while later frames reuse what is free."""
    memory = PinnedMemory(FakeDriver())
    pinned = DeviceFrames(lambda path: open_graph(path, 1), "cpu", memory.empty)
    held = []
    for seed, size in itertools.product(range(3), [(300, 200), (150, 260)]):
        image = _photo(size, seed)
        expected, found = frames.to_input(image, INPUT), pinned.to_input(image, INPUT)
        assert expected is not None
        assert found is not None
        held.append((found[0], expected[0]))
        labels = np.full(INPUT, seed, np.int32)
        maps = pinned.to_frame(labels, np.ones(INPUT, np.float32), found[1], np.zeros(4, np.float32))
        held.append((maps[0], np.full(size, seed, np.int32)))
    for one, other in held:
        np.testing.assert_array_equal(one, other)
