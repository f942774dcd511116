"""What the web viewer survives: crowds, clients that never read, hostile requests, its own end."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.endless import halves
from support.web_client import Viewer, alone, client, frames, start_viewer, within

from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.status import Status
from ovs_edge.runtime.viewer import broadcast as web_viewers


@pytest.fixture(scope="module")
def viewer(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Shared: a test leaves classes and settings as it likes."""
    with ExitStack() as stack:
        yield start_viewer(stack, tiny_bundle, tmp_path_factory.mktemp("web"))


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
        before = viewer.sink._view.encoded
        viewer.memory.more(20)
        assert viewer.sink._view.encoded == before  # nobody looks
        async with client(viewer) as session:
            lives = [await session.ws_connect("/live") for _ in range(10)]
            shown = await asyncio.gather(*(_numbers(live, 12) for live in lives))
            encoded = viewer.sink._view.encoded - before
            for live in lives:
                await live.close()
        assert all(numbers == sorted(set(numbers)) for numbers in shown)
        # Each picture is encoded once: never more often than there were pictures, which ten viewers got 120 times.
        assert encoded <= max(map(max, shown)) - min(map(min, shown)) + 3
        assert encoded < 60

    within(work())


def _connect(port: int, words: bytes = b"", host: str = "127.0.0.1") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), 5, source_address=(host, 0))
    made.sendall(words)
    return made


def _gone(one: socket.socket) -> bool:
    """Whether the server has hung up; what it said before is read."""
    one.setblocking(False)
    try:
        while one.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


POST = b"POST /classes HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"


@pytest.mark.parametrize(
    "words",
    [b"", b"GET /state HTTP/1.1\r\nHost: 127", POST + b'{"classes"', b"GET /state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"],
    ids=["silent", "half the headers", "half the body", "idle"],
)
def test_two_hundred_connections_keep_nobody_out(viewer: Viewer, words: bytes) -> None:
    async def work() -> None:
        async with client(viewer) as session, session.ws_connect("/live") as live:
            await anext(frames(live))
            crowd = [await asyncio.to_thread(_connect, viewer.port, words) for _ in range(200)]
            for _ in range(5):
                async with aiohttp.ClientSession() as other, other.get(viewer.url + "state") as answer:
                    assert answer.status == 200
            assert await _numbers(live, 5)  # the page that was open before goes on
            gone = [_gone(one) for one in crowd]
            assert 72 <= sum(gone) <= 80
            # Those who came first had to leave, unless they said something later than others came.
            assert all(gone[:72]) or words.endswith(b"\r\n") or words.startswith(POST)
            for one in crowd:
                one.close()

    began = time.monotonic()
    within(work())
    assert time.monotonic() - began < 10  # nobody waited for a time to run out


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has more than one loopback address unasked")
def test_a_crowd_from_one_address_costs_no_other_its_place(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer) as session:
            first = await asyncio.to_thread(_connect, viewer.port)
            crowd = [await asyncio.to_thread(_connect, viewer.port, b"", "127.0.0.2") for _ in range(200)]
            assert (await session.get("/state")).status == 200
            assert not _gone(first)
            assert _gone(crowd[0])
            for one in (first, *crowd):
                one.close()

    within(work())


def test_who_says_nothing_is_not_waited_for(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovs_edge.runtime.viewer.connections._FIRST_REQUEST", 0.2)
    silent = [_connect(viewer.port), _connect(viewer.port, b"GET / HTTP/1.1\r\nHo")]
    spoken = _connect(viewer.port, b"GET /state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    time.sleep(0.6)
    assert [_gone(one) for one in (*silent, spoken)] == [True, True, False]
    for one in (*silent, spoken):
        one.close()


def test_a_picture_that_fails_is_told_once_and_the_next_is_shown(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(shown: Any) -> Any:
        raise KeyError("a bug")

    async def work() -> None:
        async with client(viewer) as session, session.ws_connect("/live") as live:
            await _numbers(live, 3)
            with monkeypatch.context() as context:
                context.setattr(web_viewers, "_describe", broken)
                await asyncio.sleep(0.3)
            numbers = await _numbers(live, 10)
            assert numbers == sorted(set(numbers))

    within(work())
    told = capsys.readouterr().err
    assert told.count("web viewer: a picture for the page") == told.count("KeyError: 'a bug'") == 1


def test_a_request_that_fails_is_told_once_and_malformed_ones_are_not(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(viewer.interaction.inspector, "ask", broken)

    async def work() -> None:
        async with client(viewer) as session:
            for _ in range(3):
                async with session.post("/region", json={"x": 0.5, "y": 0.5}) as answer:
                    assert answer.status == 500
                    assert "RuntimeError" in (await answer.json())["error"]
            assert (await session.get("/state")).status == 200

    within(work())
    told = capsys.readouterr().err
    assert told.count("web viewer: the request POST /region") == told.count("RuntimeError: a bug") == 1
    chunked = POST.replace(b"Content-Length: 99", b"Transfer-Encoding: chunked")
    for words in (b"\x16\x03\x01\x02\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n", chunked + b"zz\r\n", POST + b"{"):
        one = _connect(viewer.port, words)
        one.shutdown(socket.SHUT_WR)
        one.settimeout(5)
        with suppress(ConnectionError):
            one.recv(4096)
        one.close()
    viewer.memory.more(3)
    assert capsys.readouterr().err == ""


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
    path=st.sampled_from(["/classes", "/settings", "/region", "/places"]),
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


def _upgrade(port: int) -> socket.socket:
    """A viewer that asks for the stream and never reads."""
    stuck = socket.create_connection(("127.0.0.1", port), 5)
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    stuck.sendall(
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return stuck


def test_closing_sends_viewers_away_and_frees_the_port(tiny_bundle: Path, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    stack = ExitStack()
    viewer = start_viewer(stack, tiny_bundle, tmp_path)

    async def work() -> None:
        async with client(viewer) as session, session.ws_connect("/live") as live:
            await anext(frames(live))
            stuck = _upgrade(viewer.port)
            closing = threading.Thread(target=stack.close)
            closing.start()
            news = {}
            async for message in live:
                if message.type == aiohttp.WSMsgType.BINARY:
                    await live.send_str("next")
                else:
                    news = message.json()
            assert news == {"ended": True}
            assert live.close_code == 1001  # this one did not leave by itself
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
