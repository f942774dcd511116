"""Webhooks over TLS: certificates, and a handshake that never ends."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
from support.events import event
from support.hooks import SlowHook
from support.mosquitto import until

from ovs_edge.runtime.events.delivery.dispatcher import EventDispatcher
from ovs_edge.runtime.events.delivery.options import parse_delivery


def sender(url: str, folder: Path, told: list[str]) -> EventDispatcher:
    tables = {"webhook": {"url": url}, "spool": {"folder": str(folder)}}
    return EventDispatcher(parse_delivery(tables, "test"), tell=told.append)


@pytest.mark.parametrize("trusted", ["ca", "other"])
def test_the_certificate_of_a_webhook_is_checked(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / f"{trusted}.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    told: list[str] = []
    with SlowHook(b"HTTP/1.1 204 No Content\r\n\r\n", b"", context) as hook:
        events = sender(hook.url, tmp_path, told)
        events.publish([event(1)])
        until(lambda: bool(told) or events.states[0].delivered == 1)
        events.close(drain=0)
        assert hook.requests == (trusted == "ca")
    assert bool(told) == (trusted == "other")
    assert all("CERTIFICATE_VERIFY_FAILED" in text for text in told[:1])


def test_a_handshake_that_never_ends_does_not_hold_the_end(tmp_path: Path) -> None:
    with SlowHook(b"", b"") as hook:
        events = sender(hook.url.replace("http:", "https:"), tmp_path, [])
        events.publish([event(1)])
        until(lambda: hook.requests == 1)
        start = time.monotonic()
        events.close(drain=0)
        assert time.monotonic() - start < 2
