"""Addresses in messages hold no secret, wherever in them it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_edge.bundle.addresses import redact, redact_address, scheme_of
from ovs_edge.bundle.errors import SourceError


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:se:cret@cam:554/live", "rtsp://user:***@cam:554/live"),
        ("rtsp://:x@cam/a", "rtsp://***@cam/a"),
        ("rtsp://token@cam/a", "rtsp://***@cam/a"),
        ("rtsp://admin:pa/ss?w#d @x@cam/a", "rtsp://admin:***@cam/a"),
        ("rtspt://admin:x@cam", "rtspt://admin:***@cam"),
        ("rtsp:/admin:x@cam/s", "rtsp:/admin:***@cam/s"),
        ("admin:x@cam:9/s", "admin:***@cam:9/s"),
        ("rtsp://admin:x:cam/s", "rtsp://***/s"),  # the @ was forgotten
        ("http://cam/a.cgi?user=a&pwd=b&channel=1", "http://cam/a.cgi?user=***&pwd=***&channel=1"),
        ("http://cam/a?channel=secret", "http://cam/a?channel=***"),
        ("http://cam/a?sEcRet#x", "http://cam/a?***#***"),
        ("srt://cam:9?passphrase=x&mode=caller", "srt://cam:9?passphrase=***&mode=caller"),
        ("rtsp://cam:554/user=a&password=b&channel=1", "rtsp://cam:554/user=***&password=***&channel=1"),
        ("https://cam/auth/abc/live.m3u8", "https://cam/auth/***/live.m3u8"),
        ("tcp://127.0.0.1:9000?listen", "tcp://127.0.0.1:9000?listen"),
        ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ("csi://0", "csi://0"),
        ("photo@2x.jpg", "photo@2x.jpg"),
        ("a folder/what?.jpg", "a folder/what?.jpg"),
        ("2026-11-26T10:00:00.mp4", "2026-11-26T10:00:00.mp4"),
        ("C:/videos/clip.mp4", "C:/videos/clip.mp4"),
    ],
)
def test_what_is_shown_of_an_address(address: str, shown: str) -> None:
    assert redact_address(address) == shown
    assert redact_address(shown) == shown


def test_addresses_in_running_text() -> None:
    text = (
        "lost: rtsp://a:b@cam/s does not open. Run: ffmpeg -i 'http://cam/x?pwd=b' -f null - (password=b; admin:b@cam)."
    )
    assert redact(text) == (
        "lost: rtsp://a:***@cam/s does not open. Run: ffmpeg -i 'http://cam/x?pwd=***' -f null - "
        "(password=***; admin:***@cam)."
    )
    assert str(SourceError("no rtsp://a:b@cam/s here")) == "no rtsp://a:***@cam/s here"


SECRETS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=3, max_size=12).map(
    lambda text: f"S3{text}cr3t"
)
SCHEMES = st.sampled_from(["rtsp://", "http://", "https://", "srt://", "rtspt://", "foo+bar://", "rtsp:/", ""])
KEYS = st.sampled_from(
    [
        "pwd",
        "password",
        "passwd",
        "pass",
        "token",
        "access_token",
        "key",
        "api_key",
        "apikey",
        "auth",
        "secret",
        "sig",
        "X-Amz-Signature",
        "passphrase",
        "streamid",
    ]
)


@given(SECRETS, SCHEMES, st.sampled_from(["admin", "", "a.b", "user name"]))
def test_no_user_part_shows(secret: str, scheme: str, user: str) -> None:
    assert secret not in redact_address(f"{scheme}{user}:{secret}@192.0.2.1:554/live?channel=1")


@given(SECRETS, SCHEMES, KEYS, st.sampled_from(["?", "?channel=1&", "?a=b;", "?a=b&c&"]))
def test_no_value_of_a_query_shows(secret: str, scheme: str, key: str, before: str) -> None:
    shown = redact_address(f"{scheme or 'http://'}cam.local/live.cgi{before}{key}={secret}&x=1")
    assert secret not in shown
    assert "S3" not in shown


def test_schemes() -> None:
    assert [scheme_of(name) for name in ("RTSP://a", "photo.jpg", "C:/clip.mp4", "://a", "x+y://")] == [
        "rtsp", None, None, None, "x+y",
    ]  # fmt: skip
