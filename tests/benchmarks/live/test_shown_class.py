"""`ovs-bench live --clicks`: a class shown by a click, while a run in a process of its own goes on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from support import tiny_bundle

from ovs_edge.benchmarks.live.shown_class import measure_clicks


@pytest.mark.nightly
def test_clicks_are_seen_and_no_frame_is_lost(tmp_path: Path) -> None:
    bundle = tiny_bundle.build(tmp_path / "shown.ovs", regions=True)
    clip = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30, (96, 64))
    for shade in range(60):
        picture = np.full((64, 96, 3), (255, 3 * shade, 0), np.uint8)
        picture[20:40, 30:60] = (0, 128, 255)
        clip.write(picture)
    clip.release()
    told: list[int] = []
    result = measure_clicks(bundle, str(tmp_path / "clip.mp4"), 1, 3, lambda done, of: told.append(done))
    assert told == [1, 2, 3]
    assert result.clicks == 3
    assert 0 < result.seen.median <= result.seen.p95 <= result.seen.max
    assert result.frames > 20
    assert (result.lost, result.mixed) == (0, 0)
