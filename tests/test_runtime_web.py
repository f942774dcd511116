"""The web viewer, by a real HTTP client: what it shows, what it changes, whom it refuses, and what it survives."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.endless import PLAIN, Memory, going_on, halves

from ovs_edge.bundle.errors import SinkError, UsageError
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.interaction import Interaction
from ovs_edge.runtime.overlay import Style
from ovs_edge.runtime.palette import colours
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.runtime.status import Status
from ovs_edge.runtime.web_guard import Address, Guard, parse_address
from ovs_edge.runtime.web_sink import WebOptions, WebSink

PAGE = Path(__file__).parents[1] / "runtime" / "web_page"
RED, GREEN = (0, 0, 255), (0, 255, 0)


@dataclass
class Viewer:
    """A run with a page."""

    url: str
    sink: WebSink
    memory: Memory
    segmenter: Segmenter
    interaction: Interaction

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])


def start(stack: ExitStack, bundle: Path, folder: Path, token: str | None = None, style: Style = PLAIN) -> Viewer:
    segmenter = stack.enter_context(Segmenter.load(bundle))
    segmenter.set_classes("red")
    interaction = Interaction.of(segmenter, style, ("red", "green|lawn,blue"))
    stack.callback(interaction.close)
    sink = WebSink(WebOptions("127.0.0.1:0", token, folder / "recordings", "the source"), interaction)
    memory = Memory()
    stack.enter_context(going_on(segmenter, interaction, [sink, memory], halves()))
    memory.more(1)
    return Viewer(sink.url, sink, memory, segmenter, interaction)


@pytest.fixture(scope="module")
def viewer(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Shared: a test leaves classes and settings as it likes."""
    with ExitStack() as stack:
        yield start(stack, tiny_bundle, tmp_path_factory.mktemp("web"))


def within(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a test's coroutine; a test that waits for ever has failed."""
    return asyncio.run(asyncio.wait_for(work, 30))


@asynccontextmanager
async def client(viewer: Viewer, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(viewer.url.split("?")[0], **options) as session:
        yield session


async def post(session: aiohttp.ClientSession, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    async with session.post(path, json=body) as answer:
        return answer.status, await answer.json()


async def alone(viewer: Viewer) -> None:
    """Return once the server has noticed that nobody looks any more."""
    while viewer.sink._server.watched:
        await asyncio.sleep(0.01)


async def frames(live: aiohttp.ClientWebSocketResponse) -> AsyncIterator[tuple[dict[str, Any], np.ndarray]]:
    """Header and picture of each frame, acknowledged as the page does it."""
    async for message in live:
        if message.type == aiohttp.WSMsgType.BINARY:
            (length,) = struct.unpack(">I", message.data[:4])
            jpeg = np.frombuffer(message.data[4 + length :], np.uint8)
            await live.send_str("next")
            yield json.loads(message.data[4 : 4 + length]), cv2.imdecode(jpeg, cv2.IMREAD_COLOR)


# -- what it shows ----------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            async with session.get("/") as answer:
                page = await answer.text()
                assert answer.status == 200
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            wanted = set(re.findall(r'(?:src|href)="(/[^"]*)"', page)) | {"/live.js"}
            for path in wanted:
                async with session.get(path) as answer:
                    assert answer.status == 200, path
            async with session.get("/no-such-page") as answer:
                assert answer.status == 404 and "error" in await answer.json()

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
            assert status == 200 and answer["classes"] == ["@/etc/passwd"]

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
                {"hidden": ["x"] * 5000}, {"colours": {"x" * 999: "#000000"}},
            ):  # fmt: skip
                status, answer = await post(session, "/settings", bad)
                assert status == 400 and answer["error"], bad
            await post(session, "/settings", {"threshold": 0.3, "colours": {"red": None}, "hidden": []})
            state = await (await session.get("/state")).json()
            assert state["settings"]["threshold"] == 0.3 and not any(entry["hidden"] for entry in state["classes"])

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
            assert status == 200 and found["label"] == "red" and found["share"] == pytest.approx(0.5, abs=0.05)
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
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) >= 5 and capture.read()[0]
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


# -- whom it refuses --------------------------------------------------------------------------------------------------


def test_only_those_with_the_token(tiny_bundle: Path, tmp_path: Path) -> None:
    token = "a-long-enough-token"

    async def work(viewer: Viewer) -> None:
        assert viewer.url.endswith(f"/?token={token}")
        async with client(viewer) as session:
            for path in ("/", "/state", "/app.js", "/live", "/snapshot.jpg", "/?token=", "/?token=wrong"):
                async with session.get(path) as answer:
                    assert answer.status == 401, path
                    assert token not in await answer.text()
            assert (await post(session, "/classes", {"classes": ["green"]}))[0] == 401
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect("/live")
            async with session.get("/state", headers={"Authorization": f"Bearer {token}"}) as answer:
                assert answer.status == 200 and not answer.cookies
            async with session.get("/state", headers={"Authorization": f"Bearer {token}x"}) as answer:
                assert answer.status == 401
        async with client(viewer, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            async with session.get(f"/?token={token}") as answer:
                assert answer.status == 200
                (cookie,) = answer.cookies.values()
                assert cookie["httponly"] and cookie["samesite"] == "Strict"
            async with session.get("/state") as answer:  # by the cookie
                assert answer.status == 200

    with ExitStack() as stack:
        within(work(start(stack, tiny_bundle, tmp_path, token)))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80@127.0.0.1"}, 421),
        ({"Host": ""}, 421),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_foreign_sites_are_refused(viewer: Viewer, headers: dict[str, str], status: int) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            given = {"Content-Type": "application/json", **headers}
            before = viewer.segmenter.asked.version
            async with session.post("/classes", data='{"classes": ["blue"]}', headers=given) as answer:
                assert answer.status == status
            if status != 415:
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect("/live", headers=headers)
                assert refused.value.status == status
            assert viewer.segmenter.asked.version == before

    within(work())


def test_its_own_page_is_not_foreign(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer, headers={"Origin": viewer.url.rstrip("/")}) as session:
            assert (await post(session, "/settings", {"opacity": 1}))[0] == 200
            async with session.get("/state", headers={"Host": f"localhost:{viewer.port}", "Origin": ""}) as answer:
                assert answer.status == 403
            async with session.options("/classes", headers={"Access-Control-Request-Method": "POST"}) as answer:
                assert answer.status == 405 and "Access-Control-Allow-Origin" not in answer.headers

    within(work())


def test_a_token_is_made_where_others_can_connect() -> None:
    made = {Guard(Address(host, 80)).token for host in ("0.0.0.0", "::", "192.168.0.7", "camera.example")}
    assert None not in made and len(made) == 4 and min(len(token or "") for token in made) >= 20
    assert [Guard(Address(host, 80)).token for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [None] * 4
    for bad in ("short", "has a space in it", "é" * 10):
        with pytest.raises(UsageError, match="token"):
            Guard(Address("0.0.0.0", 80), bad)


def test_addresses() -> None:
    assert parse_address("8000") == Address("127.0.0.1", 8000)
    assert parse_address("0.0.0.0") == Address("0.0.0.0", 8080)
    assert parse_address("[::1]:90") == Address("::1", 90)
    assert Address("::1", 90).url(90) == "http://[::1]:90/"
    for bad in ("", "a b", "http://x", "x:99999", "x:", ":", "1:2:3", "x/y"):
        with pytest.raises(UsageError, match="HOST:PORT"):
            parse_address(bad)


def test_a_port_in_use_is_one_clear_error(viewer: Viewer) -> None:
    with pytest.raises(SinkError, match=rf"cannot listen at 127.0.0.1:{viewer.port} .*--web"):
        WebSink(WebOptions(f"127.0.0.1:{viewer.port}"), viewer.interaction)


# -- what it survives -------------------------------------------------------------------------------------------------


async def _numbers(live: aiohttp.ClientWebSocketResponse, count: int) -> list[int]:
    numbers: list[int] = []
    async for header, _ in frames(live):
        numbers.append(header["number"])
        if len(numbers) == count:
            break
    return numbers


def test_ten_viewers_share_one_encoding_and_nobody_costs_none(viewer: Viewer) -> None:
    async def work() -> None:
        await alone(viewer)
        viewer.memory.more(3)
        before = viewer.sink._server.encoded
        viewer.memory.more(20)
        assert viewer.sink._server.encoded == before  # nobody looks
        async with client(viewer) as session:
            lives = [await session.ws_connect("/live") for _ in range(10)]
            shown = await asyncio.gather(*(_numbers(live, 12) for live in lives))
            encoded = viewer.sink._server.encoded - before
            for live in lives:
                await live.close()
        assert all(numbers == sorted(set(numbers)) for numbers in shown)
        # Each picture is encoded once: never more often than there were pictures, which ten viewers got 120 times.
        assert encoded <= max(map(max, shown)) - min(map(min, shown)) + 3
        assert encoded < 60

    within(work())


def _upgrade(port: int) -> socket.socket:
    """A viewer that asks for the stream and never reads."""
    stuck = socket.create_connection(("127.0.0.1", port), 5)
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    stuck.sendall(
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return stuck


def test_a_client_that_never_reads_holds_up_nobody(viewer: Viewer) -> None:
    async def work() -> None:
        stuck = [_upgrade(viewer.port) for _ in range(4)]
        try:
            async with client(viewer) as session, session.ws_connect("/live") as live:
                count = 0
                async for _ in frames(live):
                    count += 1
                    if count == 30:
                        break
        finally:
            for one in stuck:
                one.close()

    within(work())
    viewer.memory.more(10)


def test_two_hundred_connections(viewer: Viewer) -> None:
    crowd = []
    for _ in range(200):
        try:
            crowd.append(socket.create_connection(("127.0.0.1", viewer.port), 5))
        except OSError:
            break
    viewer.memory.more(20)
    answers = [one.recv(100) for one in crowd[150:]]
    assert all(b"503" in answer for answer in answers)
    for one in crowd:
        one.close()

    async def work() -> None:
        async with client(viewer) as session:
            while True:  # until the server has noticed that they are gone
                try:
                    async with session.get("/state") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass

    within(work())


def test_more_viewers_than_there_are_places(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            await alone(viewer)
            lives = [await session.ws_connect("/live") for _ in range(32)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/live")
            assert refused.value.status == 503
            for live in lives:
                await live.close()

    within(work())


def test_bodies_too_large_and_messages_that_mean_nothing(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            headers = {"Content-Type": "application/json"}
            async with session.post("/classes", data=b'["' + b"x" * 200_000, headers=headers) as answer:
                assert answer.status == 413
            async with session.post("/classes", data=b"[" * 50_000, headers=headers) as answer:
                assert answer.status == 400
            async with session.get("/state?" + "x" * 20_000) as answer:
                assert answer.status == 400
            for words in ("more", "next" * 100):
                async with session.ws_connect("/live") as live:
                    await live.send_str(words)
                    async for _ in live:
                        pass
                    assert live.closed

    within(work())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
known = st.sampled_from(["classes", "threshold", "opacity", "hidden", "colours", "names", "x", "y", "on"])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/classes", "/settings", "/region"]),
    body=st.dictionaries(known, values, max_size=3) | values,
    raw=st.none() | st.binary(max_size=60),
)
def test_any_request_gets_an_answer_and_breaks_nothing(viewer: Viewer, path: str, body: Any, raw: bytes | None) -> None:
    data = json.dumps(body).encode() if raw is None else raw
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: close\r\n"
    with socket.create_connection(("127.0.0.1", viewer.port), 10) as plain:
        plain.sendall(head.encode() + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        status = int(plain.recv(4096).split(b" ", 2)[1])
    assert status in (200, 400, 409)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.binary(min_size=1, max_size=200), prefix=st.sampled_from([b"", b"GET /", b"POST /classes HTTP/1.1\r\n"])
)
def test_noise_breaks_nothing(viewer: Viewer, noise: bytes, prefix: bytes) -> None:
    with socket.create_connection(("127.0.0.1", viewer.port), 10) as plain:
        plain.sendall(prefix + noise)
        plain.shutdown(socket.SHUT_WR)
    viewer.memory.more(1)


def test_closing_sends_viewers_away_and_frees_the_port(tiny_bundle: Path, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    stack = ExitStack()
    viewer = start(stack, tiny_bundle, tmp_path)

    async def work() -> None:
        async with client(viewer) as session, session.ws_connect("/live") as live:
            await anext(frames(live))
            stuck = _upgrade(viewer.port)
            closing = threading.Thread(target=stack.close)
            closing.start()
            async for message in live:
                if message.type == aiohttp.WSMsgType.BINARY:
                    await live.send_str("next")
            assert live.close_code == 1001
            await asyncio.to_thread(closing.join)
            stuck.close()

    began = time.monotonic()
    within(work())
    assert time.monotonic() - began < 10
    assert {thread.name for thread in set(threading.enumerate()) - before} <= {"asyncio_0"}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", viewer.port), 1)
    # What still comes after the end is no error.
    viewer.sink.write(Frame(halves(), 0, 0, "late"), viewer.memory.latest, None, Status())  # type: ignore[arg-type]
    viewer.sink.close()
