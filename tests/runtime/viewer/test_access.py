"""Whom the web viewer refuses: those without its token, foreign sites, names that are not this machine's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest
from support.web_client import Viewer, client, post, start_viewer, within

from ovs_edge.bundle.errors import MissingExtraError, SinkError, UsageError
from ovs_edge.runtime.viewer.access import Address, Guard, parse_address
from ovs_edge.runtime.viewer.sink import WebOptions, WebSink


@pytest.fixture(scope="module")
def viewer(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    """Shared: a test leaves classes and settings as it likes."""
    with ExitStack() as stack:
        yield start_viewer(stack, tiny_bundle, tmp_path_factory.mktemp("web"))


def test_only_those_with_the_token(tiny_bundle: Path, tmp_path: Path) -> None:
    token = "a-long-enough-token"

    async def work(viewer: Viewer) -> None:
        assert viewer.url.endswith(f"/?token={token}")
        async with client(viewer) as session:
            for path in ("/", "/state", "/app.js", "/live", "/snapshot.jpg", "/?token=", "/?token=wrong"):
                async with session.get(path) as answer:
                    assert answer.status == 401, path
                    assert token not in await answer.text()
            async with session.get("/style.css") as answer:
                assert answer.status == 200  # the page that asks for the token may look like something
            assert (await post(session, "/classes", {"classes": ["green"]}))[0] == 401
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect("/live")
            async with session.get("/state", headers={"Authorization": f"Bearer {token}"}) as answer:
                assert answer.status == 200
                assert not answer.cookies
            async with session.get("/state", headers={"Authorization": f"Bearer {token}x"}) as answer:
                assert answer.status == 401
        async with client(viewer, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            async with session.get(f"/?token={token}") as answer:
                assert answer.status == 200
                (cookie,) = answer.cookies.values()
                assert cookie["httponly"]
                assert cookie["samesite"] == "Strict"
            async with session.get("/state") as answer:  # by the cookie
                assert answer.status == 200

    with ExitStack() as stack:
        within(work(start_viewer(stack, tiny_bundle, tmp_path, token)))


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
            before = viewer.segmenter.active.version
            async with session.post("/classes", data='{"classes": ["blue"]}', headers=given) as answer:
                assert answer.status == status
            if status != 415:
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect("/live", headers=headers)
                assert refused.value.status == status
            assert viewer.segmenter.active.version == before

    within(work())


def test_its_own_page_is_not_foreign(viewer: Viewer) -> None:
    async def work() -> None:
        async with client(viewer, headers={"Origin": viewer.url.rstrip("/")}) as session:
            assert (await post(session, "/settings", {"opacity": 1}))[0] == 200
            async with session.get("/state", headers={"Host": f"localhost:{viewer.port}", "Origin": ""}) as answer:
                assert answer.status == 403
            async with session.options("/classes", headers={"Access-Control-Request-Method": "POST"}) as answer:
                assert answer.status == 405
                assert "Access-Control-Allow-Origin" not in answer.headers

    within(work())


def test_a_token_is_made_where_others_can_connect() -> None:
    made = {Guard(Address(host, 80)).token for host in ("0.0.0.0", "::", "192.168.0.7", "camera.example")}
    assert None not in made
    assert len(made) == 4
    assert min(len(token or "") for token in made) >= 20
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


def test_without_the_extra_its_name_is_told(viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp.web", None)
    monkeypatch.delitem(sys.modules, "ovs_edge.runtime.viewer.server")
    with pytest.raises(MissingExtraError, match=r"ovs-edge\[web\]"):
        WebSink(WebOptions("127.0.0.1:0"), viewer.interaction)


def test_a_port_in_use_is_one_clear_error(viewer: Viewer) -> None:
    with pytest.raises(SinkError, match=rf"cannot listen at 127.0.0.1:{viewer.port} .*--web"):
        WebSink(WebOptions(f"127.0.0.1:{viewer.port}"), viewer.interaction)
