"""Several cameras on one network: each with its own classes and outputs, and none touched by what befalls another."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.cameras import clip, config, until

from ovs_edge.benchmarks.live.synthetic_cameras import CameraMode, SyntheticCameras
from ovs_edge.bundle.errors import SinkError, SourceError, UsageError
from ovs_edge.runtime.cameras.camera import Camera
from ovs_edge.runtime.cameras.config import CameraConfig
from ovs_edge.runtime.cameras.counts import CameraState
from ovs_edge.runtime.cameras.opening import open_camera
from ovs_edge.runtime.cameras.service import CameraService
from ovs_edge.runtime.capture.live.clip import LoopedClip
from ovs_edge.runtime.events.config import WatchConfig, parse_watch
from ovs_edge.runtime.events.delivery.options import parse_delivery
from ovs_edge.runtime.events.places import Line, Places, Zone
from ovs_edge.runtime.vocabulary.sensitivity import Sensitivity


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyntheticCameras]:
    with SyntheticCameras(clip(tmp_path_factory.mktemp("clip")), 3, 20) as cameras:
        yield cameras


@pytest.fixture(autouse=True)
def playing(streams: SyntheticCameras) -> None:
    for camera in range(3):
        streams.set_mode(camera, CameraMode.PLAY)


def frames(service: CameraService) -> dict[str, int]:
    return {camera.name: camera.counts.frames for camera in service.cameras}


def more(service: CameraService, *names: str, count: int = 3) -> None:
    """Wait until each of these cameras has delivered some more frames."""
    before = frames(service)
    until(lambda: all(frames(service)[name] >= before[name] + count for name in names))


def test_each_camera_has_its_own_classes_and_outputs(
    tiny_bundle: Path, tmp_path: Path, streams: SyntheticCameras
) -> None:
    said: list[str] = []
    one = CameraConfig(streams.address(0), "red", json=str(tmp_path / "one.jsonl"))
    two = CameraConfig(streams.address(1), ("green|lawn", "blue"), json=str(tmp_path / "two.jsonl"), threshold=0.1)
    with CameraService(config(tiny_bundle, one=one, two=two), said.append) as service:
        service.start()
        more(service, "one", "two")
        counted = frames(service)
    for name, found in (("one", {"red"}), ("two", {"green"})):
        lines = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        assert {line["camera"] for line in lines} == {name}
        assert len(lines) >= counted[name]
        assert {entry["class"] for line in lines for entry in line["classes"]} == found
        assert [line["index"] for line in lines] == sorted({line["index"] for line in lines})
    assert said == []
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith(("one", "two", "network"))] == []


def test_a_camera_that_dies_or_never_was_touches_no_other(tiny_bundle: Path, streams: SyntheticCameras) -> None:
    said: list[str] = []
    streams.set_mode(2, CameraMode.DIE)
    watch = parse_watch({"rules": ["red in frame"]}, "test")
    cameras = {name: CameraConfig(streams.address(at), "red", watch=watch) for at, name in enumerate(("a", "b", "c"))}
    with CameraService(config(tiny_bundle, **cameras), said.append) as service:
        service.start()
        more(service, "a", "b")
        never = service.cameras[2]
        until(lambda: never.state[0] is CameraState.FAILED)
        assert "does not open" in str(never.state[1])
        streams.set_mode(1, CameraMode.DIE)
        until(lambda: service.cameras[1].state[0] is CameraState.LOST)
        more(service, "a")
        states = service._events._rule_states  # what MQTT says of the cameras
        until(lambda: [states.is_playing(name) for name in cameras] == [True, False, False])
        for camera in (1, 2):
            streams.set_mode(camera, CameraMode.PLAY)
        more(service, "a", "b", "c")
        assert {camera.state[0] for camera in service.cameras} == {CameraState.PLAYING}
        until(lambda: all(states.is_playing(name) for name in cameras))
    assert any(line.startswith("c: the source is lost: ") for line in said)
    assert any(line.startswith("b: the source is back after ") for line in said)
    assert not any(line.startswith("a:") for line in said)


def test_a_flood_is_decoded_at_most_at_the_rate_that_is_allowed(tiny_bundle: Path, streams: SyntheticCameras) -> None:
    streams.set_mode(0, CameraMode.FLOOD)
    flood = CameraConfig(streams.address(0), "red", max_fps=5)
    with CameraService(config(tiny_bundle, flood=flood), print) as service:
        service.start()
        more(service, "flood", count=2)
        camera, begun, before = service.cameras[0], time.monotonic(), frames(service)["flood"]
        dropped = camera.dropped
        more(service, "flood", count=10)
        took = time.monotonic() - begun
        given = frames(service)["flood"] - before + camera.dropped - dropped
    assert given <= 5 * took + 3


def test_an_output_that_fails_is_given_up_and_the_camera_goes_on(tiny_bundle: Path, streams: SyntheticCameras) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here, which is a disk without room")
    said: list[str] = []
    full = CameraConfig(streams.address(0), "red", json="/dev/full")
    with CameraService(config(tiny_bundle, full=full), said.append) as service:
        service.start()
        more(service, "full")
        assert service.cameras[0].counts.output_failures == 1
    assert [line.split(":")[1] for line in said] == [" an output failed and is given up"]


def test_a_new_configuration_leaves_the_other_cameras_alone(tiny_bundle: Path, streams: SyntheticCameras) -> None:
    kept, gone = CameraConfig(streams.address(0), "red"), CameraConfig(streams.address(1), "red")
    first = config(tiny_bundle, kept=kept, live=CameraConfig(streams.address(1), "red"), gone=gone)
    with CameraService(first, print) as service:
        service.start()
        more(service, "kept", "live")
        same, live = service.cameras[:2]
        indices = same.counts.frames
        new = CameraConfig(streams.address(2), "green")
        second = config(tiny_bundle, new=new, kept=kept, live=replace(first.cameras["live"], classes="green,red"))
        assert service.reload(second) == ["gone: removed", "new: added", "live: changed"]
        assert [camera.name for camera in service.cameras] == ["new", "kept", "live"]
        assert service.cameras[1] is same
        assert service.cameras[2] is live
        assert live.segmenter.active.labels == ("green", "red")
        more(service, "new", "kept", "live")
        assert same.counts.frames > indices
        assert same.counts.failures == 0
        assert same.state == (CameraState.PLAYING, None)
        # A source of its own opens anew; the camera keeps its name.
        third = replace(second, cameras={**second.cameras, "live": replace(second.cameras["live"], max_fps=7.0)})
        assert service.reload(third) == ["live: opened again"]
        more(service, "live")
        # What is impossible changes nothing.
        with pytest.raises(UsageError, match=r"camera new2: .*as background"):
            service.reload(replace(third, cameras={"new2": CameraConfig("0", "red", background="red")}))
        assert [camera.name for camera in service.cameras] == ["new", "kept", "live"]
        more(service, "kept", "live")


def test_what_was_set_on_the_page_stays_until_the_file_has_it_otherwise(
    tiny_bundle: Path, tmp_path: Path, streams: SyntheticCameras
) -> None:
    zone = {"points": [[0, 0], [1, 0], [1, 1]]}
    table = {"rules": ["red in door"], "zones": {"door": zone, "yard": zone}}
    (tmp_path / "classes.txt").write_text("red\n")
    a = CameraConfig(
        streams.address(0), f"@{tmp_path}/classes.txt", threshold=0.4, presets=("blue",), watch=parse_watch(table, "")
    )
    drawn = Places(
        (Zone("door", ((0, 0), (0.5, 0), (0.5, 1))), Zone("drawn", ((0, 0), (0.1, 0), (0.1, 1)))),
        (Line("yards", ((0, 0), (1, 1))),),
    )
    first = config(tiny_bundle, a=a)
    with CameraService(first, print) as service:
        (camera,) = service.cameras
        handles = camera.interaction
        assert handles.watch is not None

        def page() -> tuple[object, ...]:
            settings, watch = handles.controls.settings, handles.watch
            assert watch is not None
            style, segmenter = settings.style, camera.segmenter
            labels, found = segmenter.active.labels, {*watch.places.names, *watch.engine.config.rules}
            return (
                labels,
                segmenter.threshold,
                segmenter.sensitivity,
                style.opacity,
                style.outlines,
                style.figures,
                found,
            )

        def reload(changed: CameraConfig) -> list[str]:
            return service.reload(replace(first, cameras={"a": changed}))

        handles.vocabulary.request("green").result()
        handles.controls.change(threshold=0.9, opacity=0.7, outlines=False)
        handles.vocabulary.set_sensitivity("high")
        handles.set_places(drawn)
        of_page = (("green",), 0.9, "high", 0.7, False, False, {"door", "drawn", "yards", "red in door"})
        assert reload(a) == []
        assert page() == of_page
        # A value that the file has otherwise now is taken over, and no other.
        table = {"rules": ["red in yard", "green enters new"], "zones": {"door": zone, "yard": zone, "new": zone}}
        b = replace(a, opacity=0.2, badge=True, watch=parse_watch(table, ""))
        assert reload(b) == ["a: changed"]
        places = {"door", "drawn", "yards", "yard", "new"}
        changed = (*of_page[:3], 0.2, False, True, {*places, "red in yard", "green enters new"})
        assert page() == changed
        assert handles.watch.places.zones[0] == drawn.zones[0]
        # What is impossible takes nothing back, of whatever camera.
        (tmp_path / "classes.txt").write_text("blue\n")
        odd = {"a": replace(b, threshold=0.5, watch=a.watch), "z": replace(b, watch=WatchConfig(), background="blue")}
        with pytest.raises(UsageError, match=r"camera z: .*as background"):
            service.reload(replace(first, cameras=odd))
        ways = parse_delivery({"command": {"run": [f"{tmp_path}/none"]}}, "")
        green = {"a": replace(b, classes="green,red", opacity=0.1, threshold=0.5, sensitivity=Sensitivity.LOW)}
        with pytest.raises(UsageError, match=r"^there is no program"):
            service.reload(replace(first, cameras=green, delivery=ways))
        assert page() == changed
        (tmp_path / "red.npz").touch()
        with pytest.raises(UsageError, match=r"camera a: .*red\.npz"):
            reload(replace(b, threshold=0.5, watch=a.watch, classes=f"@{tmp_path}/red.npz"))
        assert page() == changed
        # A file of classes counts as part of the file.
        assert reload(b) == ["a: the classes in classes.txt have changed"]
        assert page() == (("blue",), *changed[1:])
        assert reload(replace(b, threshold=None, sensitivity=Sensitivity.LOW)) == ["a: changed"]
        assert page()[:3] == (("blue",), camera.segmenter.default_threshold, "low")
        assert reload(replace(b, watch=replace(b.watch, places=Places(b.watch.places.zones[1:])))) == ["a: changed"]
        assert handles.watch.places.names == places - {"door"}


def test_cameras_are_stopped_at_the_same_time(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = {f"c{number}": CameraConfig("0", "red") for number in range(6)}
    with CameraService(config(tiny_bundle, **cameras), print) as service:
        stop = Camera.stop

        def hanging(camera: Camera, successor: Camera | None = None) -> None:
            time.sleep(0.3)
            stop(camera, successor)

        monkeypatch.setattr(Camera, "stop", hanging)
        begun = time.monotonic()
        assert len(service.reload(config(tiny_bundle, c0=cameras["c0"]))) == 5
        assert 0.3 <= time.monotonic() - begun < 1.2


def test_a_port_in_use_is_told_with_the_file_and_its_key(tiny_bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = config(tiny_bundle, f"127.0.0.1:{port}", a=CameraConfig("0", "red"))
        with pytest.raises(SinkError) as refused:
            CameraService(replace(found, path=tmp_path / "c.toml"), print)
        with pytest.raises(SinkError, match=r"^the web viewer .* choose another port: --web "):
            CameraService(found, print)
    assert str(refused.value).startswith(f"{tmp_path}/c.toml: [web] the web viewer cannot listen at 127.0.0.1:{port}")
    assert 'choose another port: address = "127.0.0.1:' in str(refused.value)


def test_a_program_that_is_not_there_is_told_with_the_file(tiny_bundle: Path, tmp_path: Path) -> None:
    ways = parse_delivery({"command": {"run": [f"{tmp_path}/none"]}}, "")
    first = replace(config(tiny_bundle, a=CameraConfig("0", "red")), path=tmp_path / "c.toml")
    with CameraService(first, print) as service, pytest.raises(UsageError) as refused:
        service.reload(replace(first, delivery=ways))
    assert str(refused.value).startswith(f"{tmp_path}/c.toml: there is no program '{tmp_path}/none'")


@pytest.mark.parametrize(("source", "said"), [("none.avi", "there is no file '{}'"), ("folder", "'{}' is a folder")])
def test_a_source_that_is_not_there_is_told_as_such(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    path = tmp_path / source
    with pytest.raises(SourceError) as refused:
        open_camera(CameraConfig(str(path), "red"))
    assert str(refused.value).startswith(f"{said.format(path)}; expected a camera's number")


def test_a_clip_that_is_gone_is_told_as_such(tmp_path: Path) -> None:
    path = clip(tmp_path)
    capture = LoopedClip(path)
    capture.release()
    path.unlink()
    with pytest.raises(SourceError, match=r"there is no file '.*halves\.avi' any more"):
        LoopedClip(path)


def test_impossible_classes_are_told_before_anything_starts(tiny_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"camera a: .*red"):
        CameraService(config(tiny_bundle, a=CameraConfig("0", "red", background="red")), print)


def test_a_network_that_fails_ends_the_service(
    tiny_bundle: Path, streams: SyntheticCameras, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CameraService(config(tiny_bundle, a=CameraConfig(streams.address(0), "red")), lambda text: None) as service:
        monkeypatch.setattr("ovs_edge.runtime.cameras.camera._FIRST_PAUSE", 0.01)
        monkeypatch.setattr(service._model._engine, "run", lambda *given: 1 / 0)
        service.start()
        until(service.failed.is_set)
        assert isinstance(service.error, ZeroDivisionError)


def test_events_of_each_camera_go_to_one_place(tiny_bundle: Path, tmp_path: Path, streams: SyntheticCameras) -> None:
    def watched(at: int, rule: str) -> CameraConfig:
        return CameraConfig(streams.address(at), "red,green", watch=parse_watch({"rules": [rule]}, "test"))

    folder = tmp_path / "events"
    table = {"json_lines": {"path": str(folder / "events.jsonl")}, "spool": {"folder": str(folder / "spool")}}
    folder.mkdir()
    first = replace(
        config(
            tiny_bundle,
            one=watched(0, "coverage(red in frame) > 10%"),
            two=watched(1, "coverage(green in frame) > 90%"),
        ),
        delivery=parse_delivery(table, "test"),
    )

    def events() -> list[tuple[str, str]]:
        path = folder / "events.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(event["camera"], event["kind"]) for event in lines]

    with CameraService(first, print) as service:
        service.start()
        more(service, "one", "two")
        until(lambda: events() == [("one", "started")])
        # Another rule is in force from the next frame on, and no camera is opened again.
        same = service.cameras
        second = replace(first, cameras={**first.cameras, "two": watched(1, "coverage(green in frame) > 10%")})
        assert service.reload(second) == ["two: changed"]
        until(lambda: events() == [("one", "started"), ("two", "started")])
        moved = parse_delivery({**table, "json_lines": {"path": str(folder / "others.jsonl")}}, "test")
        assert service.reload(replace(second, delivery=moved)) == ["events: their ways have changed"]
        third = replace(
            second, delivery=moved, cameras={**second.cameras, "one": watched(0, "coverage(green in frame) > 20%")}
        )
        assert service.reload(third) == ["one: changed"]
        until(lambda: (folder / "others.jsonl").exists())
        assert service.cameras == same
        assert [camera.counts.events for camera in service.cameras] >= [2, 1]


def test_states_outlive_a_camera_that_is_opened_again_and_end_with_it(
    tiny_bundle: Path, tmp_path: Path, streams: SyntheticCameras
) -> None:
    def watched(rate: float) -> CameraConfig:
        rules = parse_watch({"rules": ["red in frame", "zebra in frame"]}, "test")
        return CameraConfig(streams.address(0), "red", watch=rules, max_fps=rate)

    table = {"json_lines": {"path": str(tmp_path / "events.jsonl")}, "spool": {"folder": str(tmp_path / "spool")}}
    first = replace(
        config(tiny_bundle, one=watched(20), two=CameraConfig(streams.address(1), "red")),
        delivery=parse_delivery(table, "test"),
    )

    def events() -> list[tuple[str, str, float | None]]:
        path = tmp_path / "events.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(event["camera"], event["kind"], event["value"]) for event in lines]

    notes: list[str] = []
    with CameraService(first, notes.append) as service:
        service.start()
        waits = "one: rule 'zebra in frame': nothing is judged until the class 'zebra' is asked for"
        assert notes == [waits]
        until(lambda: events() == [("one", "started", 1.0)])
        again = replace(first, cameras={**first.cameras, "one": watched(19)})
        assert service.reload(again) == ["one: opened again"]
        assert notes == [waits, waits]
        more(service, "one", count=12)
        assert events() == [("one", "started", 1.0)]
        del first.cameras["one"]
        assert service.reload(first) == ["one: removed"]
        until(lambda: events() == [("one", "started", 1.0), ("one", "ended", None)])
