"""Image to prediction, with answers known in advance."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.tiny_bundle import HEIGHT, WIDTH

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import BundleError, UsageError
from ovs_edge.bundle.manifest import Manifest
from ovs_edge.bundle.processor import usable_cores
from ovs_edge.runtime.capture.registry import open_source
from ovs_edge.runtime.engines.engine import EngineOptions
from ovs_edge.runtime.engines.memory import MemorySession
from ovs_edge.runtime.engines.registry import open_session
from ovs_edge.runtime.inference.prediction import NOTHING, Prediction
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.segmenter import Segmenter, SegmenterOptions

RED, GREEN, BLUE, GREY = (0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 128, 128)


def stripes(*colours: tuple[int, int, int], height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Vertical stripes of equal width, BGR."""
    image = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(colours):
        image[:, index * width // len(colours) : (index + 1) * width // len(colours)] = colour
    return image


@pytest.fixture
def segmenter(tiny_bundle: Path) -> Iterator[Segmenter]:
    with Segmenter.load(tiny_bundle, threads=1) as loaded:
        yield loaded


def middles(prediction: Prediction, count: int) -> list[str | None]:
    """Label at the middle of each of `count` stripes."""
    height, width = prediction.labels.shape
    found = [prediction.labels[height // 2, (2 * index + 1) * width // (2 * count)] for index in range(count)]
    return [None if label == NOTHING else prediction.classes[label] for label in found]


def test_three_vocabularies_in_a_row(segmenter: Segmenter) -> None:
    image = stripes(RED, GREEN, BLUE, GREY)
    segmenter.set_classes("red,green")
    assert middles(segmenter.predict(image), 4) == ["red", "green", None, None]
    segmenter.set_classes("sky,wall|grey")
    assert middles(segmenter.predict(image), 4) == [None, None, "sky", "wall"]
    segmenter.set_classes("magenta|crimson,lawn")
    assert middles(segmenter.predict(image), 4) == ["magenta", "lawn", None, None]


def test_every_pixel_of_a_stripe(segmenter: Segmenter) -> None:
    segmenter.set_classes("red,green,blue")
    prediction = segmenter.predict(stripes(RED, GREEN, BLUE, GREY))
    np.testing.assert_array_equal(prediction.labels[0], np.repeat([0, 1, 2, NOTHING], WIDTH // 4))
    regions = prediction.regions()
    assert [region.label for region in regions] == ["red", "green", "blue"]
    assert [region.box for region in regions] == [(0, 0, 16, 48), (16, 0, 32, 48), (32, 0, 48, 48)]
    assert all(region.share == 0.25 and region.confidence > 0.9 for region in regions)


def test_without_background_everything_is_painted(tiny_bundle: Path) -> None:
    with Segmenter.load(tiny_bundle, background="none", threshold=0) as segmenter:
        segmenter.set_classes("red")
        assert (segmenter.predict(stripes(RED, GREEN, BLUE)).labels == 0).all()


def test_a_background_of_given_names(tiny_bundle: Path) -> None:
    with Segmenter.load(tiny_bundle, background="green,wall") as segmenter:
        asked = segmenter.set_classes("red,blue")
        assert [entry.names for entry in asked.vocabulary.classes[2:]] == [("green",), ("wall",)]
        assert asked.labels == ("red", "blue")
        assert middles(segmenter.predict(stripes(RED, GREEN, BLUE, GREY)), 4) == ["red", None, "blue", None]
        with pytest.raises(UsageError, match="'green' is asked for as a class and as background"):
            segmenter.set_classes("Green".lower())


def test_the_threshold_clears_what_is_unsure(tiny_bundle: Path) -> None:
    undecided = stripes((255, 0, 255))
    with Segmenter.load(tiny_bundle, background="none", threshold=0.6) as segmenter:
        segmenter.set_classes("red,blue")
        assert middles(segmenter.predict(undecided), 1) == [None]
        assert middles(segmenter.predict(stripes(RED)), 1) == ["red"]
    with pytest.raises(UsageError, match=r"threshold is 1\.5"):
        Segmenter.load(tiny_bundle, threshold=1.5)


@pytest.mark.parametrize("shape", [(1, 1), (30, 4000), (4000, 30), (48, 64), (1080, 1920), (7, 5)])
def test_a_frame_of_any_size(segmenter: Segmenter, shape: tuple[int, int]) -> None:
    segmenter.set_classes("red,green")
    prediction = segmenter.predict(np.full((*shape, 3), RED, np.uint8))
    assert prediction.labels.shape == prediction.confidence.shape == shape
    assert (prediction.labels == 0).all()


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.sampled_from(["red", "green", "blue", "grey", "yellow", "unicorn"]), min_size=1, unique=True),
    padding=st.integers(1, 40),
    synonyms=st.integers(0, 3),
    seed=st.integers(0, 2**16),
)
def test_zero_rows_change_nothing(tiny_bundle: Path, names: list[str], padding: int, synonyms: int, seed: int) -> None:
    from ovs_edge.runtime.vocabulary.text_encoder import TextEncoder

    bundle = Bundle.open(tiny_bundle, verify=False)
    vectors = TextEncoder(bundle).encode(names)[:, None]
    image = np.random.default_rng(seed).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    padded = np.zeros((len(names) + padding, 1 + synonyms, 3), np.float32)
    padded[: len(names), :1] = vectors
    with open_session(bundle, EngineOptions(threads=1)) as session:
        labels, confidence = session.run(image, vectors)
        with_padding, also_confidence = session.run(image, padded)
    if set(names) != {"unicorn"}:  # a class whose only name is a zero row never wins
        assert not np.isin(labels, [index for index, name in enumerate(names) if name == "unicorn"]).any()
        np.testing.assert_array_equal(with_padding, labels)
        np.testing.assert_allclose(also_confidence, confidence, atol=1e-6)


@pytest.mark.parametrize(("threads", "at_once"), [(1, 1), (3, 3), (9, 4)])
def test_a_cpu_takes_several_frames_side_by_side(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, threads: int, at_once: int
) -> None:
    monkeypatch.setattr("ovs_edge.runtime.engines.onnx_runtime.usable_processors", lambda: list(range(16)))
    with Segmenter.load(tiny_bundle, threads=threads, side_by_side=True) as segmenter:
        assert segmenter.at_once == at_once
    with Segmenter.load(tiny_bundle, threads=threads) as segmenter:
        assert segmenter.at_once == 1
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    with pytest.raises(UsageError, match="-1 threads were asked for"):
        Segmenter.load(tiny_bundle, threads=-1, side_by_side=True)


def test_a_failed_change_leaves_the_classes(segmenter: Segmenter) -> None:
    segmenter.set_classes("red")
    for wrong in ("", "x" * 5000, ",".join(map(str, range(10_000)))):
        with pytest.raises(UsageError):
            segmenter.set_classes(wrong)
    assert segmenter.active.labels == ("red",)


def test_classes_as_a_list(segmenter: Segmenter) -> None:
    assert segmenter.set_classes(["red|crimson", "@sky"]).labels == ("red", "@sky")
    active = segmenter.set_classes(["sofa, couch", "red|crimson"])
    assert [entry.names for entry in active.vocabulary.classes[: active.shown]] == [
        ("sofa, couch",),
        ("red", "crimson"),
    ]


def test_a_stream_of_a_camera_by_its_number(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str | None, str | None]] = []

    def opened(source: str | None, camera: str | None) -> object:
        asked.append((source, camera))
        return open_source("clip.avi" if source is None else source, None)

    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("clip.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    for _ in range(3):
        writer.write(stripes(RED))
    writer.release()
    monkeypatch.setattr("ovs_edge.runtime.capture.registry.open_source", opened)
    segmenter.set_classes("red")
    for source in (0, "clip.avi", Path("clip.avi")):
        assert [middles(prediction, 1) for _, prediction in segmenter.stream(source)] == [["red"]] * 3
    assert asked == [(None, "0"), ("clip.avi", None), ("clip.avi", None)]


def test_no_classes_yet(segmenter: Segmenter) -> None:
    with pytest.raises(UsageError, match="set_classes"):
        segmenter.predict(stripes(RED))


def test_a_change_of_classes_is_quick(segmenter: Segmenter) -> None:
    segmenter.set_classes("red,green")
    start = time.perf_counter()
    segmenter.set_classes("sky,grass,brick,lawn,wall")
    new = time.perf_counter() - start
    best = min(_timed(lambda: segmenter.set_classes("red,green")) for _ in range(10))
    assert new < 0.1
    assert best < 0.002


def _timed(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


class Table:
    """An encoder that knows a vector for each name by its number."""

    def encode(self, names: Sequence[str], progress: object = None) -> np.ndarray:
        return np.array([[float(name) if name.isdigit() else 0, 0, 1] for name in names], np.float32).reshape(-1, 3)


def _manifest(tiny_bundle: Path) -> Manifest:
    return Bundle.open(tiny_bundle, verify=False).manifest


def test_classes_change_between_frames_never_within(tiny_bundle: Path) -> None:
    """The session sees vectors of one vocabulary, and the prediction carries that vocabulary's labels."""

    def answer(image: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(0.001)
        winner = int(vectors[:, 0, 0].argmax())
        return np.full((1, HEIGHT, WIDTH), winner, np.int32), np.ones((1, HEIGHT, WIDTH), np.float32)

    segmenter = Segmenter(
        _manifest(tiny_bundle), MemorySession(answer), Table(), SegmenterOptions("none", exact_words=True)
    )
    vocabularies = [("1", "9"), ("7", "3", "2"), ("5",)]
    segmenter.set_classes(vocabularies[0])
    done = threading.Event()

    def change() -> None:
        turn = 0
        while not done.is_set():
            segmenter.set_classes(vocabularies[turn % 3])
            turn += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(100):
            prediction = segmenter.predict(stripes(RED))
            assert prediction.classes in vocabularies
            assert prediction.classes[prediction.labels[0, 0]] == max(prediction.classes)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        (np.zeros((HEIGHT, WIDTH), np.int32), np.zeros((HEIGHT, WIDTH), np.float32)),
        (np.zeros((1, 4, 4), np.int32), np.zeros((1, 4, 5), np.float32)),
        (np.full((1, 4, 4), 7, np.int32), np.zeros((1, 4, 4), np.float32)),
        (np.zeros((1, 4, 4), np.float32), np.zeros((1, 4, 4), np.float32)),
    ],
)
def test_a_graph_that_breaks_the_contract_is_named(tiny_bundle: Path, answer: tuple[np.ndarray, np.ndarray]) -> None:
    session = MemorySession(lambda image, vectors: answer)
    segmenter = Segmenter(_manifest(tiny_bundle), session, Table(), SegmenterOptions("none", exact_words=True))
    segmenter.set_classes("1")
    with pytest.raises(BundleError, match="expected"):
        segmenter.predict(stripes(RED))
    assert session.shapes == [((1, HEIGHT, WIDTH, 3), (1, 1, 3))]


def test_a_coarse_label_map_covers_the_frame(tiny_bundle: Path) -> None:
    """Labels at stride 4: the right half of the input is padding, and none of it reaches the frame."""
    labels = np.zeros((1, HEIGHT // 4, WIDTH // 4), np.int32)
    labels[..., 6:] = 1  # frame 48x24 lies in columns 0..24 of 64, 0..6 of 16
    session = MemorySession(lambda image, vectors: (labels, np.ones(labels.shape, np.float32)))
    segmenter = Segmenter(_manifest(tiny_bundle), session, Table(), SegmenterOptions("none", exact_words=True))
    segmenter.set_classes("1,2")
    assert (segmenter.predict(np.zeros((96, 48, 3), np.uint8)).labels == 0).all()


def test_a_missing_provider_is_named(tiny_bundle: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(UsageError, match="no CUDA provider"):
        Segmenter.load(tiny_bundle, provider="cuda")
    with pytest.raises(UsageError, match="-1 threads"):
        Segmenter.load(tiny_bundle, threads=-1)


@pytest.mark.parametrize(
    "classes",
    [b"red", None, 5, [5], ["red", None], [["red"]], {"red": ["crimson"]}, {"red", "green"}, frozenset(["red"])],
)
def test_classes_of_another_type_are_refused_in_words(segmenter: Segmenter, classes: object) -> None:
    with pytest.raises(TypeError, match='expected a text such as "person'):
        segmenter.set_classes(classes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": "2"}, "threads is a str, expected int"),
        ({"provider": 5}, "provider is a int, expected str"),
        ({"background": 5}, "background is a int, expected a text"),
        ({"stuff": "sky"}, "stuff is the text 'sky', expected a list of names"),
    ],
)
def test_options_of_another_type_are_refused_in_words(tiny_bundle: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        Segmenter.load(tiny_bundle, **options)  # type: ignore[arg-type]
