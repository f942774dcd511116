"""A camera that sends more than it is asked for: at most that many frames are decoded, and the newest ones."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cameras import clip

from ovs_edge.runtime.capture.live.clip import open_clip
from ovs_edge.runtime.capture.live.live_source import LiveSource
from ovs_edge.runtime.capture.live.pace import Pace
from ovs_edge.runtime.capture.options import CaptureOptions


class Flood:
    """Some thousand pictures a second; counts those that are decoded."""

    def __init__(self) -> None:
        self.decoded = self.left = 0

    def read(self) -> tuple[bool, Any]:
        time.sleep(0.0005)
        self.decoded += 1
        return True, np.full((4, 6, 3), self.decoded % 250, np.uint8)

    def get(self, prop: int) -> float:
        return 30.0

    def release(self) -> None:
        pass


class Skippable(Flood):
    """A flood whose pictures can be left undecoded."""

    def skip(self) -> bool:
        time.sleep(0.0005)
        self.left += 1
        return True


def taken(source: LiveSource, seconds: float) -> int:
    """Frames that come within some seconds."""
    timer = threading.Timer(seconds, source.close)
    timer.start()
    try:
        return sum(1 for _ in source)
    finally:
        timer.cancel()
        timer.join()


@pytest.mark.parametrize("kind", [Flood, Skippable])
def test_a_flood_is_taken_at_the_rate_that_is_allowed(kind: type[Flood]) -> None:
    capture = kind()
    frames = taken(LiveSource("flood", lambda: capture, most_fps=20), 1.5)
    assert 5 <= frames <= 20 * 1.5 + 4
    assert capture.left > frames if kind is Skippable else capture.left == 0
    assert capture.left + capture.decoded <= 4 * 20 * 1.6 + 8  # beyond that the sender has to wait


def test_a_camera_of_the_allowed_rate_loses_nothing() -> None:
    pace = Pace(50)
    wanted = 0
    due = time.monotonic()
    for _ in range(25):
        wanted += pace.wait()
        due += 1 / 50
        time.sleep(max(0.0, due - time.monotonic()))
    assert wanted >= 24


def test_a_clip_is_played_at_the_rate_that_is_allowed(tmp_path: Path) -> None:
    source = open_clip(clip(tmp_path), CaptureOptions(most_fps=5))
    assert source.files == (tmp_path / "halves.avi",)
    assert 2 <= taken(source, 1.5) <= 5 * 1.5 + 3
