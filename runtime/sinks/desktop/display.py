"""Whether a window can be opened, found out without opening one: GUI toolkits abort the process on a wrong guess."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache

from ...opencv import cv2

_PATIENCE = 2.0  # seconds for a display server to answer
_PROBE_PATIENCE = 20.0  # seconds for a window in a process of its own
_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.destroyAllWindows()"


def missing() -> str | None:
    """Why no window can be opened here, or None."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (DISPLAY is not set)"
    found = re.search(r"GUI:\s*(\S+)", cv2.getBuildInformation())
    if found is None or found.group(1) == "NONE":
        return "this OpenCV has no windows (pip uninstall opencv-python-headless && pip install 'ovs-edge[window]')"
    if sys.platform.startswith("linux"):
        return unanswered(os.environ.get("DISPLAY", ""), os.environ.get("WAYLAND_DISPLAY", "")) or refused()
    return None


@cache
def unanswered(display: str, wayland: str) -> str | None:
    """Why neither display server can be reached, or None: a DISPLAY often outlives the session that set it."""
    if wayland and _connects(_wayland_places(wayland)):
        return None
    if not display:
        return f"the display {wayland} (WAYLAND_DISPLAY) does not answer"
    if _connects(_x11_places(display)):
        return None
    return f"the display {display} (DISPLAY) does not answer; unset DISPLAY, or connect again"


@cache
def refused() -> str | None:
    """Why the toolkit cannot open a window although a display answers, or None; tried in a process of its own."""
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": os.environ.get("ORT_DISABLE_TELEMETRY", "1")}
    try:
        ran = subprocess.run(
            [sys.executable, "-c", _PROBE],
            capture_output=True, text=True, errors="replace", timeout=_PROBE_PATIENCE, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"opening a window takes longer than {_PROBE_PATIENCE:g} s"
    except OSError:
        return None  # no process can be started: the window itself will tell
    if ran.returncode == 0:
        return None
    lines = [line for line in ran.stderr.splitlines() if line.strip()]
    reason = lines[0].strip()[:200] if lines else f"exit code {ran.returncode}"
    return f"the window toolkit fails ({reason})"


def _connects(places: Iterator[tuple[int, object]]) -> bool:
    for family, place in places:
        with suppress(OSError), socket.socket(socket.AddressFamily(family), socket.SOCK_STREAM) as probe:
            probe.settimeout(_PATIENCE)
            probe.connect(place)  # type: ignore[arg-type]
            return True
    return False


def _x11_places(display: str) -> Iterator[tuple[int, object]]:
    """Where "host:number.screen" listens (X(7), "Display names"): sockets of this machine without a host, else TCP."""
    if display.startswith("/"):  # macOS: the socket's path
        yield socket.AF_UNIX, display
        return
    found = re.fullmatch(r"(?:(?:unix|tcp|inet6?)/)?(.*):([0-9]{1,5})(?:\.[0-9]+)?", display)
    if found is None:
        return
    host, number = found[1], int(found[2])
    if host in ("", "unix"):
        yield socket.AF_UNIX, f"/tmp/.X11-unix/X{number}"
        yield socket.AF_UNIX, f"\0/tmp/.X11-unix/X{number}"
        host = "localhost"
    with suppress(OSError, UnicodeError):
        for family, _, _, _, place in socket.getaddrinfo(host.strip("[]"), 6000 + number, type=socket.SOCK_STREAM):
            yield family, place


def _wayland_places(name: str) -> Iterator[tuple[int, object]]:
    yield socket.AF_UNIX, os.path.join(os.environ.get("XDG_RUNTIME_DIR", "/run/user/0"), name)
