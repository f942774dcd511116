"""`ovs-serve` as a whole: Ray Serve's replicas under load, and what remains when it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'ovs-edge[ray]'")

from ovs_edge.benchmarks.live.process_memory import server_memory
from ovs_edge.benchmarks.live.serving import measure_serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Pictures of coloured stripes."""
    for number in range(3):
        image = np.zeros((60, 80, 3), np.uint8)
        for channel in range(3):
            image[:, 26 * channel : 26 * channel + 26, (channel + number) % 3] = 200
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
    return tmp_path


@pytest.mark.slow
def test_many_clients_with_classes_of_their_own(tiny_bundle: Path, photos: Path) -> None:
    result = measure_serving(tiny_bundle, photos, clients=12, replicas=2, queue=4, minutes=0.1)
    assert result.right, result
    assert result.lists == 48
    assert result.samples[-1].replicas_mib > 0
    assert all(status not in (200, 500) for found in result.hostile_statuses.values() for status in found)


@contextmanager
def _serving(bundle: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    code = "from ovs_edge.serving.cli import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-c", code, str(bundle), "--address", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        line = next((line for line in server.stdout if "http://" in line), "")
        assert line, server.communicate()
        yield server, line[line.index("http://") :].strip()
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.communicate(timeout=60)
        finally:
            server.kill()


def _ask(url: str, picture: bytes) -> int:
    request = urllib.request.Request(f"{url}segment?classes=red,blue", picture, {"Content-Type": "image/png"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            labels = cv2.imdecode(np.frombuffer(response.read(), np.uint8), cv2.IMREAD_UNCHANGED)
            assert [int(labels[30, x]) for x in (10, 40, 70)] == [1, 255, 0]
            return int(response.status)
    except urllib.error.HTTPError as error:
        assert error.headers["Retry-After"], error.read()
        return error.code


def _descendants(parent: int) -> dict[int, str]:
    """Processes below `parent`, and their command lines."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # processes come and go
            above = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(above, []).append(int(place.name))
    found, new = {}, [parent]
    while new:
        for child in children.get(new.pop(), []):
            with suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            new.append(child)
    return found


@pytest.mark.nightly
def test_a_replica_that_dies_is_replaced_and_nothing_is_left_in_the_end(tiny_bundle: Path, photos: Path) -> None:
    picture = (photos / "0.png").read_bytes()
    with _serving(tiny_bundle, "--replicas", "2") as (server, url):
        assert _ask(url, picture) == 200
        replicas = [number for number, command in _descendants(server.pid).items() if "ServeReplica" in command]
        assert len(replicas) == 2
        os.kill(replicas[0], signal.SIGKILL)
        statuses = [_ask(url, picture) for _ in range(50)]
        assert set(statuses) <= {200, 503}
        assert statuses.count(200) > 40
        assert server_memory(server.pid).server_mib > 0
        end = time.monotonic() + 120
        while json.load(urllib.request.urlopen(f"{url}healthz"))["replicas"] < 2:
            assert time.monotonic() < end, "the replica was not replaced"
            time.sleep(0.5)
        assert _ask(url, picture) == 200
        left = _descendants(server.pid)
    assert server.returncode == 0
    end = time.monotonic() + 30
    while any(Path(f"/proc/{number}").exists() for number in left):
        assert time.monotonic() < end, "processes of Ray are left"
        time.sleep(0.2)
