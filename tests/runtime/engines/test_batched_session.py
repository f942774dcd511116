"""Bundles that take several images at once: callers give single images, and get what a graph of one image gives."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ovs_edge.benchmarks.speed.profile import measure_profile
from ovs_edge.bundle.bundle import MANIFEST, Bundle, sha256
from ovs_edge.bundle.errors import BundleError, UsageError
from ovs_edge.bundle.manifest import SEGMENTER, Manifest, TensorSpec
from ovs_edge.calibration.graph.checks import check_graph
from ovs_edge.export.bundle_writer import export_segmenter
from ovs_edge.export.cli import app
from ovs_edge.export.onnx_writer import save
from ovs_edge.export.options import ExportRequest, resolve
from ovs_edge.models import default_weights
from ovs_edge.runtime.cameras.config import CameraConfig, ModelConfig
from ovs_edge.runtime.cameras.shared_model import SharedModel
from ovs_edge.runtime.engines.batched_session import BatchedSession
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.segmenter.checkpoint import load_checkpoint

if TYPE_CHECKING:
    from typing_extensions import Self

BATCH = 3


class Graph:
    """Labels are the image's first value plus the class whose vector has the largest sum; slow, one run at a time."""

    at_once = 1

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.counts: list[int] = []  # different images of each run
        self.closed = False
        self._lock = threading.Lock()

    def run(self, image: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self._lock.acquire(blocking=False), "two runs at once"
        try:
            time.sleep(self.seconds)
            assert image.shape == (BATCH, 4, 6, 3)
            assert text.shape[0] == BATCH
            if (image == 255).any():
                raise BundleError("the graph failed")
            self.counts.append(len({one.tobytes() for one in image}))
            labels = image[..., 0].astype(np.int32) + text.sum((2, 3)).argmax(1)[:, None, None]
            return labels, np.ones(labels.shape, np.float32)
        finally:
            self._lock.release()

    def run_raw(self, image: np.ndarray, text: np.ndarray) -> Any:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True


def asked(value: int, classes: int, winner: int, names: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """An image and the vectors of `classes` names, of which `winner` scores most."""
    vectors = np.full((classes, names, 5), 0.1, np.float32)
    vectors[winner] = 1
    return np.full((1, 4, 6, 3), value, np.uint8), vectors


def test_each_caller_gets_the_labels_of_its_own_image_and_classes() -> None:
    graph = Graph(0.002)
    wrong: list[str] = []
    with BatchedSession(graph, BATCH) as session:

        def camera(number: int) -> None:
            rng = np.random.default_rng(number)
            for turn in range(60):
                classes, names = int(rng.integers(1, 9)), int(rng.integers(1, 4))
                winner = int(rng.integers(classes))
                labels, confidence = session.run(*asked(10 * number + turn % 7, classes, winner, names))
                if labels.shape != (1, 4, 6) or confidence.shape != (1, 4, 6):
                    wrong.append(f"{labels.shape}")
                if (labels != 10 * number + turn % 7 + winner).any():
                    wrong.append(f"camera {number}, turn {turn}: {labels[0, 0, 0]}")

        threads = [threading.Thread(target=camera, args=(number,)) for number in range(5)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(30)
        assert not any(one.is_alive() for one in threads)
    assert wrong == []
    assert graph.closed
    assert max(graph.counts) == BATCH  # five callers fill batches of three
    assert len(graph.counts) < 5 * 60  # and share runs


def test_one_caller_waits_for_nobody() -> None:
    graph = Graph()
    session = BatchedSession(graph, BATCH)
    for turn in range(4):
        assert session.run(*asked(turn, 3, 1))[0][0, 0, 0] == turn + 1
    assert graph.counts == [1] * 4


def test_an_error_reaches_every_caller_of_the_run_and_no_other() -> None:
    graph = Graph(0.05)
    session = BatchedSession(graph, BATCH)
    found: dict[int, Any] = {}

    def call(value: int) -> None:
        try:
            found[value] = int(session.run(*asked(value, 2, 0))[0][0, 0, 0])
        except BundleError as error:
            found[value] = str(error)

    first = threading.Thread(target=call, args=(1,))
    first.start()
    time.sleep(0.02)  # it runs alone; these three are the next batch
    others = [threading.Thread(target=call, args=(value,)) for value in (2, 255, 3)]
    for one in others:
        one.start()
    for one in (first, *others):
        one.join(10)
    assert found == {1: 1, 2: "the graph failed", 255: "the graph failed", 3: "the graph failed"}
    call(4)
    assert found[4] == 4


def test_a_caller_that_is_interrupted_holds_up_nobody() -> None:
    session = BatchedSession(Graph(), BATCH)
    original = session._next

    def interrupted(own: Any) -> Any:
        session._next = original  # type: ignore[method-assign]
        raise KeyboardInterrupt

    session._next = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        session.run(*asked(1, 1, 0))
    assert session.run(*asked(5, 1, 0))[0][0, 0, 0] == 5
    assert session._waiting == []


def test_such_graphs_give_no_segments() -> None:
    with pytest.raises(UsageError, match="without --batch"):
        BatchedSession(Graph(), BATCH).run_raw(*asked(1, 1, 0))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The embedded model's weights, exported for two images and, with the same text encoder, for one."""
    folder = tmp_path_factory.mktemp("batch")
    found = {batch: folder / f"b{batch}.ovs" for batch in (1, 2)}
    small = ["--size", "64x64", "--max-classes", "40", "--text-precision", "int8"]
    with pytest.raises(SystemExit) as ended:
        app([str(default_weights()), *small, "--batch", "2", "-o", str(found[2])])
    assert not ended.value.code
    shutil.copytree(found[2], found[1])
    model, _ = load_checkpoint(default_weights())
    options = resolve(model.config, ExportRequest(size=(64, 64), max_classes=40))
    save(export_segmenter(model, options), found[1] / SEGMENTER)
    opened = Bundle.open(found[2]).manifest
    graph = replace(
        opened.graph,
        inputs=(
            TensorSpec("image", "uint8", (1, 64, 64, 3)),
            TensorSpec("text_embeddings", "float32", ("K", "S", 384)),
        ),
        outputs=tuple(replace(spec, shape=(1, 64, 64)) for spec in opened.graph.outputs),
    )
    digests = {**opened.digests, SEGMENTER: sha256(found[1] / SEGMENTER)}
    (found[1] / MANIFEST).write_text(replace(opened, graph=graph, digests=digests).to_json(), encoding="utf-8")
    return found


def test_cameras_with_other_classes_share_runs_of_the_network(exported: dict[int, Path]) -> None:
    from skimage import data

    photos = [data.astronaut(), data.coffee()[:, 100:500], data.chelsea()]
    classes = ("person", "cup,table,spoon|teaspoon,cat")
    labels: dict[int, list[list[np.ndarray]]] = {}
    for batch, bundle in exported.items():
        model = SharedModel(ModelConfig(bundle))
        assert model.manifest.batch == batch
        assert batch == 1 or model.at_once == 2
        segmenters = [model.segmenter(CameraConfig(str(index), one, smooth=0.0)) for index, one in enumerate(classes)]
        found: list[list[np.ndarray]] = [[], []]

        def camera(index: int, segmenters: Any = segmenters, found: Any = found) -> None:
            found[index] += [segmenters[index].predict(photo).labels for photo in photos * 2]

        threads = [threading.Thread(target=camera, args=(index,)) for index in range(2)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(60)
        labels[batch] = found
        model.close()
    for index in range(2):
        assert len(labels[1][index]) == len(labels[2][index]) == 6
        for single, batched in zip(labels[1][index], labels[2][index], strict=True):
            assert np.array_equal(single, batched)


def test_a_photo_alone_and_what_such_a_bundle_is_not_for(
    exported: dict[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    from skimage import data

    found = []
    for bundle in exported.values():
        with Segmenter.load(bundle) as segmenter:
            segmenter.set_classes("person,cat")
            found.append(segmenter.predict(data.astronaut()).labels)
    assert np.array_equal(*found)
    assert capsys.readouterr().err.count("note: b2.ovs takes 2 images at once; for one camera") == 1
    opened = Bundle.open(exported[2])
    assert [list(spec.shape) for spec in opened.manifest.graph.inputs] == [[2, 64, 64, 3], [2, "K", "S", 384]]
    with pytest.raises(UsageError, match="takes 2 images at once.*without --batch"):
        check_graph(opened.graph("fp32"), opened.manifest)
    text = opened.manifest.to_json()
    for wrong in (text.replace('"K"', '1,\n    "K"', 1), text.replace("     2,\n     64", "     33,\n     64", 1)):
        assert wrong != text
        with pytest.raises(BundleError, match="expected"):
            Manifest.from_json(wrong)


def test_layers_of_a_run_of_several_images_are_timed(exported: dict[int, Path]) -> None:
    profile = measure_profile(Bundle.open(exported[2]), "fp32", classes=2, threads=1, runs=1)
    assert any("backbone" in layer.module for layer in profile.layers)
