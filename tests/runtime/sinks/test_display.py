"""Whether a window can be opened is found out before any toolkit is asked."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovs_edge.runtime.sinks.desktop import display


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    display.unanswered.cache_clear()
    display.refused.cache_clear()
    yield
    display.unanswered.cache_clear()
    display.refused.cache_clear()


@pytest.mark.parametrize("name", ["localhost:1234.0", ":4321", "unix:4321.0", "no such host.invalid:0", "nonsense", ""])
def test_a_display_that_does_not_answer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert "does not answer" in str(display.unanswered(name, "wayland-7" if not name else ""))


def test_displays_that_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with socket.socket(socket.AF_UNIX) as wayland, socket.socket() as x11:
        wayland.bind(str(tmp_path / "wayland-0"))
        wayland.listen()
        assert display.unanswered("", "wayland-0") is None
        for number in range(1000, 1100):
            try:
                x11.bind(("127.0.0.1", 6000 + number))
            except OSError:
                continue
            break
        x11.listen()
        assert display.unanswered(f"127.0.0.1:{number}.0", "") is None
        assert display.unanswered(f"127.0.0.1:{number}.0", "wayland-9") is None  # X11 for want of Wayland


def test_the_toolkit_is_tried_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for probe, says in (
        ("import os; os.abort()", "exit code -6"),
        ("import sys; sys.exit('could not load the plugin xcb')", "plugin xcb"),
        ("import os; assert os.environ['ORT_DISABLE_TELEMETRY']", None),
    ):
        display.refused.cache_clear()
        monkeypatch.setattr(display, "_PROBE", probe)
        reason = display.refused()
        assert (reason is None) if says is None else (says in str(reason))
    display.refused.cache_clear()
    monkeypatch.setattr(display, "_PROBE", "import time; time.sleep(9)")
    monkeypatch.setattr(display, "_PROBE_PATIENCE", 0.5)
    assert "takes longer" in str(display.refused())
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    display.refused.cache_clear()
    assert display.refused() is None
