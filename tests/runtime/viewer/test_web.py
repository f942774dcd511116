"""The web viewer, by a real HTTP client: what it shows and what it changes."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from support.endless import PLAIN, Memory, halves
from support.web_client import Viewer, client, frames, post, start_viewer, within

from ovs_edge.benchmarks.cli import main as bench
from ovs_edge.benchmarks.report.report import tables
from ovs_edge.runtime.draw.palette import colours
from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.status import Status
from ovs_edge.runtime.viewer.sink import WebOptions, WebSink

PAGE = Path(__file__).parents[3] / "runtime" / "viewer" / "page"
RED, GREEN = (0, 0, 255), (0, 255, 0)


@pytest.fixture(scope="module")
def viewer(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Shared: a test leaves classes and settings as it likes."""
    with ExitStack() as stack:
        yield start_viewer(stack, tiny_bundle, tmp_path_factory.mktemp("web"))


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            async with session.get("/") as answer:
                page = await answer.text()
                assert answer.status == 200
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            wanted = set(re.findall(r'(?:src|href)="(/[^"]*)"', page)) | {"/live.js", "/edits.js"}
            for path in wanted:
                async with session.get(path) as answer:
                    assert answer.status == 200, path
            async with session.get("/no-such-page") as answer:
                assert answer.status == 404
                assert "error" in await answer.json()

    within(work())
    for file in PAGE.iterdir():
        assert not re.search(r"(?:https?:)?//[a-z]", file.read_text().replace("http://www.w3.org/2000/svg", "")), file


def test_new_classes_are_seen_and_no_frame_mixes_two_vocabularies(viewer: Viewer) -> None:
    """Each frame's colours are those of the version its header tells; frames come in order, none twice."""
    paint = {name: colours((name,))[0].astype(int) for name in ("red", "green")}

    def painted(picture: np.ndarray, column: int, colour: Any) -> bool:
        return bool(np.abs(picture[24, column].astype(int) - colour).max() < 60)

    async def work() -> None:
        async with client(viewer) as session, session.ws_connect("/live") as live:
            names: dict[int, str] = {}
            changes = ["green", "red"] * 4
            _, answer = await post(session, "/classes", {"classes": ["red"]})
            names[answer["version"]] = "red"
            seen: list[int] = []
            checked = set()
            async for header, picture in frames(live):
                seen.append(header["index"])
                if (name := names.get(header["version"])) is not None:
                    asked, other = (16, 48) if name == "red" else (48, 16)
                    assert painted(picture, asked, paint[name]), (name, picture[24, asked])
                    assert painted(picture, other, GREEN if name == "red" else RED)
                    assert header["shares"] == [pytest.approx(0.5, abs=0.05)]
                    checked.add(header["version"])
                if header["version"] == max(names):
                    if not changes:
                        break
                    name = changes.pop()
                    status, answer = await post(session, "/classes", {"classes": [name]})
                    assert (status, answer["classes"]) == (200, [name])
                    names[answer["version"]] = name
            assert seen == sorted(set(seen))
            assert checked == set(names)

    within(work())
    indices = [index for index, _ in viewer.memory.seen]
    assert indices == list(range(len(indices)))  # no frame was lost on the way


def test_known_names_count_from_the_next_frame_on(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            for name in ("green", "red", "green"):
                _, answer = await post(session, "/classes", {"classes": [name]})
                assert viewer.segmenter.predict(halves()).version == answer["version"]

    within(work())


def test_classes_that_make_no_sense_change_nothing(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            await post(session, "/classes", {"classes": ["red", "lawn|green"]})
            for bad in ([], [""], ["x" * 400], ["a\x00b"], ["\ud800"], [f"name {n}" for n in range(2000)], "red", [1]):
                async with session.post(
                    "/classes", data=json.dumps({"classes": bad}), headers={"Content-Type": "application/json"}
                ) as answer:
                    assert answer.status == 400, bad
                    assert "\n" not in (await answer.json())["error"]
            async with session.get("/state") as answer:
                state = await answer.json()
            assert [entry["names"] for entry in state["classes"]] == [["red"], ["lawn", "green"]]
            # A list from the network names no file.
            status, answer = await post(session, "/classes", {"classes": ["@/etc/passwd"]})
            assert status == 200
            assert answer["classes"] == ["@/etc/passwd"]

    within(work())


def test_classes_made_from_others_than_those_in_force_are_refused(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            _, before = await post(session, "/classes", {"classes": ["red"]})
            status, after = await post(session, "/classes", {"classes": ["red", "green"], "version": before["version"]})
            assert status == 200
            assert after["version"] > before["version"]
            for version in (before["version"], 0, None, "x", [1]):
                status, answer = await post(session, "/classes", {"classes": ["blue"], "version": version})
                assert status == 409
                assert "GET /state" in answer["error"]
            # Nor while others are on their way: they would be undone.
            encode, going = viewer.segmenter.set_classes, threading.Event()

            def held(classes: Any) -> Any:
                going.wait(10)
                return encode(classes)

            monkeypatch.setattr(viewer.segmenter, "set_classes", held)
            other = viewer.interaction.vocabulary.request("sky")
            status, _ = await post(session, "/classes", {"classes": ["blue"], "version": after["version"]})
            going.set()
            assert status == 409
            assert (await asyncio.to_thread(other.result)).labels == ("sky",)

    within(work())


def test_settings_change_the_next_pictures(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session, session.ws_connect("/live") as live:
            await post(session, "/classes", {"classes": ["red", "green"]})
            status, _ = await post(session, "/settings", {"colours": {"red": "#102030"}, "hidden": ["green"]})
            assert status == 200
            async for _, picture in frames(live):
                left, right = picture[24, 16].astype(int), picture[24, 48].astype(int)
                if np.abs(left - (0x30, 0x20, 0x10)).max() < 24 and np.abs(right - GREEN).max() < 60:
                    break
            assert (await post(session, "/settings", {"threshold": 1}))[0] == 200
            async for header, _ in frames(live):
                if header["shares"] == [0, 0]:
                    break
            for bad in (
                {"threshold": 2}, {"threshold": True}, {"opacity": "1"}, {"opacity": None}, {"opacity": 10**400},
                {"hidden": "red"}, {"colours": {"red": "blue"}}, {"colours": []}, {"volume": 11}, {"names": 1},
                {"sensitivity": "extreme"}, {"sensitivity": 1}, {"sensitivity": None}, {"hidden": ["x"] * 5000}, {"colours": {"x" * 999: "#000000"}},
            ):  # fmt: skip
                status, answer = await post(session, "/settings", bad)
                assert status == 400 and answer["error"], bad
            await post(session, "/settings", {"threshold": 0.3, "colours": {"red": None}, "hidden": []})
            state = await (await session.get("/state")).json()
            assert state["settings"]["threshold"] == 0.3
            assert not any(entry["hidden"] for entry in state["classes"])

    within(work())


def test_sensitivity_and_what_names_are_read_as(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            await post(session, "/classes", {"classes": ["red", "zebra", "lawn|grass"]})
            before = viewer.segmenter.active.version
            status, settings = await post(session, "/settings", {"sensitivity": "high"})
            assert (status, settings["sensitivity"], viewer.segmenter.sensitivity) == (200, "high", "high")
            state = await (await session.get("/state")).json()
            assert state["version"] > before
            red, zebra, lawn = (entry["reading"] for entry in state["classes"])
            assert red is lawn is None  # one of its names was trained
            assert (
                zebra["text"].startswith("zebra: ") and {"doubtful", "readable", "nearest", "suggestion"} < zebra.keys()
            )
            await post(session, "/settings", {"sensitivity": "normal"})

    within(work())


def test_changes_from_elsewhere_are_told(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session, session.ws_connect("/live") as live:
            viewer.interaction.controls.change(opacity=0.75)
            viewer.segmenter.set_classes("blue")
            async for message in live:
                if message.type == aiohttp.WSMsgType.TEXT:
                    news = json.loads(message.data)
                    if news["settings"]["opacity"] == 0.75 and news["classes"][0]["label"] == "blue":
                        break
                else:
                    await live.send_str("next")
            viewer.interaction.controls.change(opacity=1)

    within(work())


def test_a_region_and_what_else_it_might_be(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            _, answer = await post(session, "/classes", {"classes": ["red", "magenta", "green"]})
            while True:
                viewer.memory.more(1)
                if viewer.memory.seen[-1][1] == answer["version"]:
                    break
            viewer.memory.more(1)
            status, found = await post(session, "/region", {"x": 0.2, "y": 0.5})
            assert status == 200
            assert found["label"] == "red"
            assert found["share"] == pytest.approx(0.5, abs=0.05)
            assert [guess["label"] for guess in found["guesses"]][:1] == ["red"]
            assert found["box"] == [0, 0, pytest.approx(0.5, abs=0.05), 1]
            for bad in ({"x": 1, "y": 0}, {"x": -0.1, "y": 0}, {"x": "0", "y": 0}, {}, {"x": None, "y": 0}):
                assert (await post(session, "/region", bad))[0] == 400

    within(work())


def test_a_snapshot(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session, session.get("/snapshot.jpg") as answer:
            picture = cv2.imdecode(np.frombuffer(await answer.read(), np.uint8), cv2.IMREAD_COLOR)
            assert picture.shape == (48, 64, 3)
            assert re.fullmatch(r'attachment; filename="frame_\d+\.jpg"', answer.headers["Content-Disposition"])

    within(work())


def test_a_recording_is_made_and_fetched(viewer: Viewer, tmp_path: Path) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            assert (await post(session, "/record", {"on": False})) == (200, {"recorded": None})
            assert (await post(session, "/record", {"on": "yes"}))[0] == 400
            await post(session, "/record", {"on": True})
            viewer.memory.more(30)
            status, answer = await post(session, "/record", {"on": False})
            assert status == 200
            async with session.get(f"/recordings/{answer['recorded']}") as file:
                (tmp_path / "got.mp4").write_bytes(await file.read())
            for name in ("..%2f..%2fREADME.md", "%2fetc%2fpasswd", "nothing.mp4"):
                assert (await session.get(f"/recordings/{name}")).status == 404

    within(work())
    capture = cv2.VideoCapture(str(tmp_path / "got.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) >= 5
    assert capture.read()[0]
    capture.release()


def test_a_lost_source_is_told(tiny_bundle: Path, tmp_path: Path) -> None:
    async def work() -> None:
        async with client(viewer) as session, session.ws_connect("/live") as live:
            viewer.sink.idle(None, Status(source="lost: the cable; reconnecting in 4 s"))
            async for message in live:
                if message.type == aiohttp.WSMsgType.TEXT and (lost := json.loads(message.data)["lost"]):
                    break
            assert lost == "lost: the cable; reconnecting in 4 s"
            assert (await session.get("/snapshot.jpg")).status == 400  # no picture has come yet

    with ExitStack() as stack:
        segmenter = stack.enter_context(Segmenter.load(tiny_bundle))
        segmenter.set_classes("red")
        interaction = Interaction.of(segmenter, PLAIN)
        stack.callback(interaction.close)
        sink = WebSink(WebOptions("127.0.0.1:0"), interaction)
        stack.callback(sink.close)
        viewer = Viewer(sink.url, sink, Memory(), segmenter, interaction)
        within(work())


def test_the_command_serves_until_it_is_interrupted(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--web` on a recording: shown over and over, changed by a client, ended by Ctrl-C without an error."""
    result = tmp_path / "live.json"
    words = ["live", "--model", str(tiny_bundle), "--threads", "1", "--changes", "2", "-o", str(result)]
    monkeypatch.setattr(sys, "argv", ["ovs-bench", *words])
    with pytest.raises(SystemExit) as exit:
        bench()
    assert exit.value.code == 0
    found = json.loads(result.read_text())["live"]
    assert found["changes"] == 2
    assert found["fps"] > 0
    for kind in ("new_names", "known_names"):
        assert 0 < found[kind]["median"] <= found[kind]["p95"] <= found[kind]["max"]
    assert "| new names |" in tables(tmp_path)
