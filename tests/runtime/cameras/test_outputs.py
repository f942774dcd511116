"""Outputs of cameras: they outlive what SIGHUP opens again, and none is replaced by the run that wrote it."""

from __future__ import annotations

import fcntl
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cameras import clip, config, until

from ovs_edge.benchmarks.live.synthetic_cameras import CameraMode, SyntheticCameras
from ovs_edge.bundle.errors import SinkError, UsageError
from ovs_edge.runtime.cameras.config import CameraConfig
from ovs_edge.runtime.cameras.opening import Timeline
from ovs_edge.runtime.cameras.service import CameraService
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.sinks.mask_form import MaskForm


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyntheticCameras]:
    with SyntheticCameras(clip(tmp_path_factory.mktemp("clip")), 1, 20) as cameras:
        yield cameras


@pytest.fixture
def camera(streams: SyntheticCameras) -> CameraConfig:
    streams.set_mode(0, CameraMode.PLAY)
    return CameraConfig(streams.address(0), "red")


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pictures(path: Path) -> int:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    return count


def test_a_camera_that_is_opened_again_goes_on_with_its_outputs(
    tiny_bundle: Path, tmp_path: Path, camera: CameraConfig
) -> None:
    said: list[str] = []
    path, video, masks = tmp_path / "a.jsonl", tmp_path / "a.mkv", tmp_path / "masks"
    first = config(tiny_bundle, a=replace(camera, json=str(path), save=str(video), save_masks=f"{masks}/"))
    with CameraService(first, said.append) as service:
        service.start()
        until(lambda: len(lines(path)) > 3)
        (old,) = service.cameras
        second = replace(first, cameras={"a": replace(first.cameras["a"], max_fps=7.0)})
        assert service.reload(second) == ["a: opened again"]
        before, (new,) = len(lines(path)), service.cameras
        assert new is not old
        assert new.counts.frames >= before
        until(lambda: len(lines(path)) > before + 3)
    found = lines(path)
    for key in ("index", "time"):
        values = [line[key] for line in found]
        assert values == sorted(set(map(float, values)))  # type: ignore[arg-type]
    assert pictures(video) == len(found)
    assert len(list(masks.glob("live_*.png"))) == len(found)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jsonl", "a.mkv", "masks"]
    assert said == []


def test_outputs_hear_of_a_loss_before_their_camera_is_there_again(
    tiny_bundle: Path, tmp_path: Path, streams: SyntheticCameras, camera: CameraConfig
) -> None:
    path = tmp_path / "a.jsonl"
    first = config(tiny_bundle, a=replace(camera, json=str(path)))
    with CameraService(first, lambda text: None) as service:
        service.start()
        until(lambda: len(lines(path)) > 2)
        streams.set_mode(0, CameraMode.DIE)
        service.reload(replace(first, cameras={"a": replace(first.cameras["a"], max_fps=7.0)}))
        until(lambda: lines(path)[-1].get("event") == "lost")
        streams.set_mode(0, CameraMode.PLAY)
        until(lambda: "event" not in lines(path)[-1])
    events = [line["event"] for line in lines(path) if "event" in line]
    assert events[-2:] == ["lost", "recovered"]


def test_what_a_run_has_written_it_does_not_replace(tiny_bundle: Path, tmp_path: Path, camera: CameraConfig) -> None:
    said: list[str] = []
    path, other = tmp_path / "a.jsonl", tmp_path / "a_2.jsonl"
    first = config(tiny_bundle, a=replace(camera, json=str(path)))
    with CameraService(first, said.append) as service:
        service.start()
        until(lambda: len(lines(path)) > 2)
        # The same file with other contents, and then of another camera.
        polygons = replace(first.cameras["a"], masks=MaskForm.POLYGONS)
        service.reload(replace(first, cameras={"a": polygons}))
        until(lambda: len(lines(other)) > 1)
        service.reload(replace(first, cameras={"b": polygons}))
        until(lambda: len(lines(tmp_path / "a_3.jsonl")) > 1)
    assert "polygons" not in path.read_text()
    assert {line["camera"] for line in [*lines(path), *lines(other)]} == {"a"}
    assert {line["camera"] for line in lines(tmp_path / "a_3.jsonl")} == {"b"}
    told = f"{path} has been written since the program was started"
    assert [text for text in said if told in text] == [
        f"a: writes {other}: {told}",
        f"b: writes {tmp_path / 'a_3.jsonl'}: {told}",
    ]


def test_an_output_that_cannot_be_opened_does_not_keep_its_camera(
    tiny_bundle: Path, tmp_path: Path, streams: SyntheticCameras, camera: CameraConfig
) -> None:
    said: list[str] = []
    streams.set_mode(0, CameraMode.DIE)
    taken, kept = tmp_path / "taken.jsonl", tmp_path / "kept.mkv"
    asked = config(tiny_bundle, a=replace(camera, json=str(taken), save=str(kept)))
    with CameraService(asked, said.append) as service, taken.open("w") as another:
        service.start()
        fcntl.flock(another, fcntl.LOCK_EX)
        streams.set_mode(0, CameraMode.PLAY)
        until(lambda: service.cameras[0].counts.frames > 3)
        assert service.cameras[0].counts.output_failures == 1
    assert [text for text in said if "given up" in text] == [
        f"a: an output failed and is given up: {taken} is being written by another process; choose another name"
    ]
    assert pictures(kept) > 3


@pytest.mark.parametrize(
    ("outputs", "error", "text"),
    [
        ({"json": "a.jsonl", "save": "file/out.mp4"}, SinkError, r"^camera a: cannot write '.*file/out\.mp4' "),
        ({"json": "a.jsonl", "save": "out.webm"}, UsageError, r"^camera a: \.webm videos are not written"),
        ({"save": "new/out.mp4", "save_masks": "file/masks"}, SinkError, r"^camera a: cannot write '.*file/masks' "),
    ],
)
def test_an_output_that_is_impossible_is_told_before_anything_starts(
    tiny_bundle: Path, tmp_path: Path, outputs: dict[str, str], error: type[Exception], text: str
) -> None:
    (tmp_path / "file").write_text("of somebody")
    asked = CameraConfig("0", "red")
    for key, name in outputs.items():
        asked = replace(asked, **{key: str(tmp_path / name)})  # type: ignore[arg-type]
    with pytest.raises(error, match=text):
        CameraService(config(tiny_bundle, a=asked), print)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "of somebody"


@given(sources=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=5), min_size=1, max_size=4))
def test_numbers_and_times_go_on_over_sources(sources: list[list[int]]) -> None:
    timeline, image, now = Timeline(), np.zeros((1, 1, 3), np.uint8), 100.0
    placed: list[Frame] = []
    for gaps in sources:
        timeline.open()
        index, began = -1, now + 1
        for gap in gaps:  # each of these frames is so many later than the last
            index, now = index + gap, now + gap
            index = max(index, 0)
            placed.append(timeline.place(Frame(image, index, max(0.0, now - began), f"live_{index:06d}", now)))
    for before, after in itertools.pairwise(placed):
        assert (after.index, after.time) > (before.index, before.time)
        assert after.time - before.time <= after.captured - before.captured + 1
        assert after.name == f"live_{after.index:06d}"
