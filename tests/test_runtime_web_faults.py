"""What the web viewer survives: crowds, clients that never read, hostile requests, its own end."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
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
