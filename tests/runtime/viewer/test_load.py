"""The web viewer under load: large pictures, clients that never read, snapshots and class changes without end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from support.endless import PLAIN, Memory, going_on, halves
from support.web_client import Viewer, client, frames, start_viewer, within

from ovs_edge.runtime.draw.overlay import Style
from ovs_edge.runtime.draw.palette import colours
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.status import Status
from ovs_edge.runtime.viewer import broadcast as web_viewers
from ovs_edge.runtime.viewer.sink import WebOptions, WebSink

CHANGES = 1000
CONNECTIONS = 8


@contextmanager
def large(bundle: Path, folder: Path) -> Iterator[Viewer]:
    """A run on 1280x720 pixels of noise, which JPEG cannot make small, and nothing painted over them."""
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    with ExitStack() as stack:
        segmenter = stack.enter_context(Segmenter.load(bundle))
        segmenter.set_classes("red")
        interaction = Interaction.of(segmenter, Style(0, outlines=False, names=False, legend=False, figures=False))
        stack.callback(interaction.close)
        sink = WebSink(WebOptions("127.0.0.1:0", recordings=folder / "recordings"), interaction)
        memory = Memory()
        stack.enter_context(going_on(segmenter, interaction, [sink, memory], noise))
        memory.more(1)
        yield Viewer(sink.url, sink, memory, segmenter, interaction)


def _stuck(port: int) -> socket.socket:
    """A viewer that asks for all it can get and reads nothing of it."""
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect(("127.0.0.1", port))
    stuck.sendall(
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return stuck


async def _rate(live: aiohttp.ClientWebSocketResponse, seconds: float) -> float:
    """Frames a second, and each larger than what a connection's buffers swallow unseen."""
    count, end = 0, time.monotonic() + seconds
    async for message in live:
        if message.type == aiohttp.WSMsgType.BINARY:
            assert len(message.data) > 300_000
            await live.send_str("next")
            count += 1
        if time.monotonic() >= end:
            break
    return count / seconds


def test_a_client_that_never_reads_is_dropped_and_the_others_keep_their_rate(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = 1.0
    monkeypatch.setattr(web_viewers, "_PATIENCE", patience)

    async def work(viewer: Viewer) -> None:
        viewers = viewer.sink._view._broadcast._viewers
        # The system's own buffers are several frames large on some machines; a connection inherits those of the port.
        viewer.sink._server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        async with client(viewer) as session, session.ws_connect("/live", max_msg_size=0) as live:
            alone = await _rate(live, 1.5)
            stuck = [await asyncio.to_thread(_stuck, viewer.port) for _ in range(4)]
            try:
                deadline = time.monotonic() + 12
                while len(viewers) < 5:
                    assert time.monotonic() < deadline
                    await _rate(live, 0.02)
                rates = [await _rate(live, patience / 2)]
                while len(viewers) > 1:
                    assert time.monotonic() < deadline, "the viewers that never read are still there"
                    rates.append(await _rate(live, 0.5))
                crowded = float(np.mean(rates))
                while (after := await _rate(live, 0.5)) < alone / 2:
                    assert time.monotonic() < deadline, (alone, after)
            finally:
                for one in stuck:
                    one.close()
            # Not quite the same rate, since a machine that does other things besides is no even clock.
            assert crowded > alone / 3, (alone, crowded)

    with large(tiny_bundle, tmp_path) as viewer:
        within(work(viewer))
        viewer.memory.more(10)


def test_snapshots_without_end_hold_up_no_picture(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes long here, as a large one does on a small machine."""
    seconds = 0.8
    taken: list[float] = []
    encode = web_viewers.Broadcast._jpeg

    def slow(self: Any, shown: Any, widest: int | None, quality: int) -> bytes:
        if widest is None:
            taken.append(time.monotonic())
            time.sleep(seconds)
        return encode(self, shown, widest, quality)

    monkeypatch.setattr(web_viewers.Broadcast, "_jpeg", slow)

    async def work(viewer: Viewer) -> None:
        async def snapshot(session: aiohttp.ClientSession) -> int:
            async with session.get("/snapshot.jpg") as answer:
                assert answer.status == 200
                assert (await answer.read())[:2] == b"\xff\xd8"
                return int(answer.headers["Content-Disposition"].split("frame_")[1].split(".")[0])

        async with client(viewer) as session, session.ws_connect("/live") as live:
            shown = frames(live)
            earliest = (await anext(shown))[0]["index"]
            asking, gaps, last = [], [], time.monotonic()
            while len(asking) < 60 or not all(one.done() for one in asking):
                if len(asking) < 60:
                    asking.append(asyncio.ensure_future(snapshot(session)))
                await anext(shown)
                gaps.append(time.monotonic() - last)
                last = time.monotonic()
            # Nobody is given a picture from before they asked, and those who ask together share one.
            assert min([await one for one in asking]) >= earliest
            assert len(taken) <= sum(gaps) / seconds + 1 < 20
            assert max(gaps) < seconds, gaps

    with ExitStack() as stack:
        within(work(start_viewer(stack, tiny_bundle, tmp_path)))


def test_a_snapshot_of_a_picture_that_stays_is_encoded_anew_for_another_style_only(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    encode = web_viewers.Broadcast._jpeg

    def counted(self: Any, shown: Any, widest: int | None, quality: int) -> bytes:
        taken.append(shown.number)
        return encode(self, shown, widest, quality)

    monkeypatch.setattr(web_viewers.Broadcast, "_jpeg", counted)

    async def work(viewer: Viewer) -> None:
        async with client(viewer) as session:

            async def snapshot() -> bytes:
                async with session.get("/snapshot.jpg") as answer:
                    return await answer.read()

            first = await snapshot()
            assert await snapshot() == first
            assert len(taken) == 1
            viewer.interaction.controls.change(opacity=0.5)
            assert await snapshot() != first
            assert len(taken) == 2

    with ExitStack() as stack:
        segmenter = stack.enter_context(Segmenter.load(tiny_bundle))
        segmenter.set_classes("red")
        interaction = Interaction.of(segmenter, PLAIN)
        stack.callback(interaction.close)
        sink = WebSink(WebOptions("127.0.0.1:0"), interaction)
        stack.callback(sink.close)
        memory = Memory()
        with going_on(segmenter, interaction, [memory], halves()):
            memory.more(1)
        assert memory.latest is not None
        sink.write(Frame(halves(), 0, 0, "one"), memory.latest, None, Status())
        within(work(Viewer(sink.url, sink, memory, segmenter, interaction)))


def test_a_thousand_class_changes_in_a_row(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a few connections at once: each is in force or was overtaken, the last holds, no frame mixes two."""
    lists = (["red"], ["green"], ["red", "green"])
    paint = {name: colours((name,))[0].astype(int) for name in ("red", "green")}
    bare = {"red": (0, 0, 255), "green": (0, 255, 0)}

    async def work(viewer: Viewer) -> None:
        came: list[list[str]] = []  # in the order in which the server took them
        request = viewer.interaction.vocabulary.request

        def recorded(classes: Any) -> Any:
            came.append(list(classes))
            return request(classes)

        monkeypatch.setattr(viewer.interaction.vocabulary, "request", recorded)
        numbers = iter(range(CHANGES))
        statuses: list[int] = []
        in_force: dict[int, list[str]] = {}  # version -> its classes
        shown: list[tuple[int, np.ndarray, np.ndarray]] = []  # version, colour of the left and of the right half

        async def change(session: aiohttp.ClientSession) -> None:
            for number in numbers:
                async with session.post("/classes", json={"classes": lists[number % 3]}) as answer:
                    found = await answer.json()
                    statuses.append(answer.status)
                    if answer.status == 200:
                        assert found["classes"] == lists[number % 3]
                        in_force[found["version"]] = found["classes"]

        async def watch(live: aiohttp.ClientWebSocketResponse) -> None:
            async for header, picture in frames(live):
                shown.append((header["version"], picture[24, 16].astype(int), picture[24, 48].astype(int)))
                if done.is_set() and header["version"] == max(in_force):
                    return

        made = 0

        async def connected(*_: Any) -> None:
            nonlocal made
            made += 1

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(connected)
        done = asyncio.Event()
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with (
            client(viewer) as page,
            page.ws_connect("/live") as live,
            client(viewer, connector=connector, trace_configs=[trace]) as session,
        ):
            watching = asyncio.ensure_future(watch(live))
            before = len(viewer.memory.seen)
            await asyncio.gather(*(change(session) for _ in range(CONNECTIONS)))
            done.set()
            await watching
            flowed = len(viewer.memory.seen) - before
            state = await (await session.get("/state")).json()
        assert len(statuses) == len(came) == CHANGES
        assert set(statuses) <= {200, 409}
        assert made <= CONNECTIONS
        assert [entry["label"] for entry in state["classes"]] == came[-1] == in_force[max(in_force)]
        assert not state["pending"]
        assert state["error"] is None
        assert flowed > 20
        assert len(shown) > 10
        for version, left, right in shown:
            if version in in_force:  # not so for the classes of the start
                for name, colour in (("red", left), ("green", right)):
                    expected = paint[name] if name in in_force[version] else np.array(bare[name])
                    assert np.abs(colour - expected).max() < 60, (version, in_force[version], name, colour)

    with ExitStack() as stack:
        viewer = start_viewer(stack, tiny_bundle, tmp_path)
        within(work(viewer))
        indices = [index for index, _ in viewer.memory.seen]
        assert indices == list(range(len(indices)))  # no frame was lost on the way
