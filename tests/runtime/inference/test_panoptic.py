"""Segments of a frame: from raw outputs to the prediction, the JSON line and the picture."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_bundle import HEIGHT, WIDTH, build

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import BundleError, UsageError
from ovs_edge.bundle.letterbox import Letterbox
from ovs_edge.bundle.manifest import Manifest
from ovs_edge.bundle.panoptic import panoptic_segments
from ovs_edge.runtime.cli import main
from ovs_edge.runtime.draw.colour_map import colour_map
from ovs_edge.runtime.draw.overlay import Style, draw, fill
from ovs_edge.runtime.draw.palette import SHADES, _bgr_to_oklab, _candidates, colours, shades
from ovs_edge.runtime.engines.memory import MemorySession
from ovs_edge.runtime.engines.session import RawOutputs
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.inference.panoptic import Stuff, frame_segments
from ovs_edge.runtime.inference.prediction import Prediction, Segment
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.segmenter import Segmenter, SegmenterOptions
from ovs_edge.runtime.sinks.json_lines import describe
from ovs_edge.runtime.status import Status

RED, GREEN, BLUE, GREY = (0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 128, 128)
SCALE = 4  # the pictures are so many times the network's input


@pytest.fixture(scope="module")
def panoptic_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so read it only."""
    return build(tmp_path_factory.mktemp("panoptic") / "tiny.ovs", panoptic=True, stuff=("blue",))


def scene() -> np.ndarray:
    """Sky on top; a red ball at the left, two that touch the middle line, on grey."""
    image = np.full((HEIGHT * SCALE, WIDTH * SCALE, 3), GREY, np.uint8)
    image[: 16 * SCALE] = BLUE
    image[24 * SCALE : 40 * SCALE, 8 * SCALE : 20 * SCALE] = RED
    image[24 * SCALE : 40 * SCALE, 44 * SCALE : 56 * SCALE] = RED
    return image


def check(prediction: Prediction) -> tuple[Segment, ...]:
    """The invariants; returns the segments."""
    ids, segments = prediction.segment_map, prediction.segments
    assert ids is not None and ids.shape == prediction.labels.shape and ids.dtype == np.int32
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))
    assert set(np.unique(ids)) - {0} == {segment.id for segment in segments}
    assert sum(segment.area for segment in segments) == np.count_nonzero(ids)
    for segment in segments:
        ys, xs = np.nonzero(ids == segment.id)
        assert segment.area == len(ys)
        assert segment.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert segment.label == prediction.classes[segment.index]
    stuff = [segment.index for segment in segments if not segment.thing]
    assert len(stuff) == len(set(stuff))
    return segments


def test_things_apart_stuff_together(panoptic_bundle: Path) -> None:
    with Segmenter.load(panoptic_bundle, threads=1) as segmenter:
        segmenter.set_classes("crimson|red,sky,unicorn")
        segments = check(segmenter.predict(scene()))
        assert [(segment.label, segment.thing) for segment in segments] == [
            ("crimson", True), ("sky", False), ("crimson", True),
        ]  # fmt: skip
        assert segments[0].box[0] == pytest.approx(8 * SCALE, abs=SCALE)
        assert segments[2].box[0] == pytest.approx(44 * SCALE, abs=SCALE)
        assert segments[1].box[2] == WIDTH * SCALE  # both halves of the sky
        assert all(segment.score > 0.9 for segment in segments)
        segmenter.set_classes("green")  # red and sky are now background, which makes no segment
        prediction = segmenter.predict(scene())
        assert check(prediction) == () and prediction.segment_map is not None
    with Segmenter.load(panoptic_bundle, threads=1, stuff=["Reds"], background="none") as segmenter:
        segmenter.set_classes("red,blue")
        assert [segment.thing for segment in check(segmenter.predict(scene()))] == [False, False]
    with Segmenter.load(panoptic_bundle, threads=1, task="semantic") as segmenter:
        segmenter.set_classes("red")
        prediction = segmenter.predict(scene())
        assert prediction.segment_map is None and prediction.segments == ()


def test_a_semantic_bundle_has_no_segments(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match="ovs-export --task panoptic"):
        Segmenter.load(tiny_bundle, task="panoptic")
    with pytest.raises(UsageError, match="panoptic segmentation only"):
        Segmenter.load(tiny_bundle, stuff=["sky"])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 8),
    classes=st.integers(1, 3),
    background=st.integers(0, 2),
    frame=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_invariants(seed: int, queries: int, classes: int, background: int, frame: tuple[int, int]) -> None:
    """Also for frames so small that segments vanish."""
    rng = np.random.default_rng(seed)
    masks = cv2.resize(rng.normal(0, 8, (3, 4, queries)).astype(np.float32), (8, 6)).reshape(6, 8, queries)
    raw = RawOutputs(
        np.zeros((1, 24, 32), np.int32),
        np.zeros((1, 24, 32), np.float32),
        masks.transpose(2, 0, 1)[None].astype(np.float32),
        rng.normal(0, 3, (1, queries, classes + background + 1)).astype(np.float32),
    )
    labels = tuple(f"class {index}" for index in range(classes))
    things = rng.random(classes) < 0.5
    ids, segments = frame_segments(raw, Letterbox.fit(frame, (24, 32)), labels, things.tolist())
    check(Prediction(np.zeros(frame, np.int32), np.ones(frame, np.float32), labels, {}, segments, ids))
    assert all(segment.thing == things[segment.index] for segment in segments)


@pytest.mark.parametrize("frame", [(24, 32), (11, 17), (90, 70), (61, 200)])
@pytest.mark.parametrize("seed", [0, 1])
def test_masks_go_through_the_published_sizes(seed: int, frame: tuple[int, int]) -> None:
    """To the network's input, cut to the frame's part, to the frame; only then is anything decided."""
    rng = np.random.default_rng(seed)
    noise = cv2.resize(rng.normal(0, 8, (3, 4, 6)).astype(np.float32), (8, 6)).transpose(2, 0, 1)
    masks = np.stack([noise[query] - np.delete(noise, query, 0).max(0) for query in range(6)])  # hardly any overlap
    logits = rng.normal(0, 3, (1, 6, 3)).astype(np.float32)
    logits[0, :, 2] = -9  # no query is without an object
    raw = RawOutputs(np.zeros((1, 24, 32), np.int32), np.zeros((1, 24, 32), np.float32), masks[None], logits)
    letterbox = Letterbox.fit(frame, (24, 32))
    ids, segments = frame_segments(raw, letterbox, ("a", "b"), (True, False))
    height, width = letterbox.scaled
    resize = functools.partial(torch.nn.functional.interpolate, mode="bilinear", align_corners=False)
    inputs = resize(torch.from_numpy(masks)[None], size=letterbox.target)[:, :, :height, :width]
    known, parts = panoptic_segments(
        resize(inputs, size=frame)[0].numpy(),
        torch.from_numpy(logits[0]).softmax(-1).numpy(),
        np.array([True, False]),
    )
    assert parts and [segment.index for segment in segments] == [part.label for part in parts]
    assert np.mean(ids != known) < 1e-3


class Table:
    """Every name has the same vector."""

    def encode(self, names: Any, progress: Any = None) -> np.ndarray:
        return np.ones((len(names), 3), np.float32)

    def preload(self) -> None:
        """Nothing to load."""


@pytest.mark.parametrize(
    ("masks", "classes"),
    [((1, 5, 4, 4), (1, 4, 3)), ((1, 5, 4, 4), (1, 5, 1)), ((1, 0, 4, 4), (1, 0, 3)), ((5,), (5,))],
)
def test_outputs_that_do_not_fit(panoptic_bundle: Path, masks: tuple[int, ...], classes: tuple[int, ...]) -> None:
    session = MemorySession(
        lambda image, vectors: (np.zeros((1, HEIGHT, WIDTH), np.int32), np.ones((1, HEIGHT, WIDTH), np.float32)),
        lambda image, vectors: (np.zeros(masks, np.float32), np.zeros(classes, np.float32)),
    )
    manifest = Bundle.open(panoptic_bundle, verify=False).manifest
    segmenter = Segmenter(manifest, session, Table(), SegmenterOptions("none", exact_words=True))
    segmenter.set_classes("red,blue")
    with pytest.raises(BundleError, match="mask_logits"):
        segmenter.predict(scene())


def test_stuff_by_any_of_its_names(panoptic_bundle: Path) -> None:
    manifest: Manifest = Bundle.open(panoptic_bundle, verify=False).manifest
    stuff = Stuff(manifest, ["paved  Roads"])
    for names, known in (
        (("blue",), True), (("heaven", "Sky"), True), (("skys",), True), (("paved road",), True), (("road",), False),
        (("red", "brick"), False), (("grass",), False),
    ):  # fmt: skip
        assert (names in stuff) == known
    assert ("gras",) not in Stuff(manifest, ["grass"])


def test_the_json_line(panoptic_bundle: Path) -> None:
    with Segmenter.load(panoptic_bundle, threads=1) as segmenter:
        segmenter.set_classes("red,sky")
        prediction = segmenter.predict(scene())
    line = json.loads(json.dumps(describe(Frame(scene(), 0, 0.0, "scene"), prediction)))
    assert [found["class"] for found in line["classes"]] == ["red", "sky"]
    assert [(found["id"], found["class"], found["kind"]) for found in line["segments"]] == [
        (1, "red", "thing"), (2, "sky", "stuff"), (3, "red", "thing"),
    ]  # fmt: skip
    for found, segment in zip(line["segments"], prediction.segments, strict=True):
        assert found["box"] == list(segment.box) and found["score"] == round(segment.score, 4)
        assert found["share"] == round(segment.area / (HEIGHT * WIDTH * SCALE**2), 6)
    assert line["segments"][1]["share"] == pytest.approx(1 / 3, abs=0.03)  # masks are at stride 4


def test_the_picture_tells_instances_apart(panoptic_bundle: Path) -> None:
    with Segmenter.load(panoptic_bundle, threads=1) as segmenter:
        segmenter.set_classes("red,sky")
        prediction = segmenter.predict(scene())
    painted = colour_map(prediction)
    assert painted.names == ("red #1", "sky", "red #2")
    image = np.zeros_like(scene())
    filled = fill(image, prediction, 1)
    first, second = filled[32 * SCALE, 14 * SCALE], filled[32 * SCALE, 50 * SCALE]
    assert (first != second).any() and (first == colours(prediction.classes)[0]).all()
    assert (filled[2 * SCALE, 2 * SCALE] == colours(prediction.classes)[1]).all()
    assert not filled[44 * SCALE, 32 * SCALE].any()
    drawn = draw(scene(), prediction, Style(), Status(fps=3))
    assert drawn.shape == image.shape and (drawn != draw(scene(), prediction, Style(names=False), Status(fps=3))).any()


def test_nothing_to_paint() -> None:
    empty = Prediction(
        np.full((200, 200), -1, np.int32),
        np.ones((200, 200), np.float32),
        ("cat",),
        {},
        (),
        np.zeros((200, 200), np.int32),
    )
    image = np.full((200, 200, 3), 90, np.uint8)
    assert (draw(image, empty, Style(legend=False)) == image).all()


def test_neighbours_in_a_crowd_have_different_shades() -> None:
    count = 3 * SHADES
    ids = np.repeat(np.random.default_rng(0).permutation(count) + 1, 5)[None].repeat(9, 0).astype(np.int32)
    segments = tuple(Segment(number, 0, "person", True, 45, (0, 0, 1, 1), 1.0) for number in range(1, count + 1))
    labels = np.zeros(ids.shape, np.int32)
    painted = colour_map(Prediction(labels, np.ones(ids.shape, np.float32), ("person",), {}, segments, ids))
    row = painted.palette[painted.index[0, ::5]]
    assert (row[1:] != row[:-1]).any(1).all()
    assert painted.shares == pytest.approx([1]) and painted.names[-1] == f"person #{count}"


def test_shades_are_told_apart() -> None:
    for colour in _candidates()[0]:
        found = shades(colour)
        assert (found[0] == colour).all()
        lab = _bgr_to_oklab(found)
        distances = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 9 * np.eye(SHADES)
        assert distances.min() > 0.045, (colour, distances.min())


def test_the_command(
    panoptic_bundle: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["ovs-run", "--source", "scene.png", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            main()
        return int(exit.value.code or 0), capfd.readouterr().err

    monkeypatch.chdir(tmp_path)
    cv2.imwrite("scene.png", scene())
    outputs = ("--classes", "red,sky", "--save", "out.png", "--json", "out.jsonl")
    assert run("--model", panoptic_bundle, *outputs, "--task", "panoptic", "--stuff", "red|crimson") == (0, "")
    line = json.loads(Path("out.jsonl").read_text())
    assert [found["kind"] for found in line["segments"]] == ["stuff", "stuff"]
    assert Path("out.png").is_file()
    for arguments, says in (
        (("--model", tiny_bundle, "--task", "panoptic"), "ovs-export --task panoptic"),
        (("--model", panoptic_bundle, "--task", "instance"), "expected auto, semantic or panoptic"),
        (("--model", tiny_bundle, "--stuff", "sky"), "panoptic segmentation only"),
        (("--model", panoptic_bundle, "--stuff", ","), "empty"),
    ):
        code, error = run(*outputs, *arguments)
        assert code == 2 and error.count("\n") == 1 and says in error
