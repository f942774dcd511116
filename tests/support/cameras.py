"""Real Motion JPEG cameras of a test, and a service on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
from support.endless import halves

from ovs_edge.runtime.cameras.config import CameraConfig, CamerasConfig, ModelConfig, WebConfig


def clip(folder: Path) -> Path:
    """A clip of two halves, red and green."""
    path = folder / "halves.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(5):
        writer.write(halves())
    writer.release()
    return path


def config(bundle: Path, web: str | None = None, **cameras: CameraConfig) -> CamerasConfig:
    """Cameras on the tiny bundle, and a page in any port where one is wanted."""
    return CamerasConfig(cameras, ModelConfig(bundle, threads=1), None if web is None else WebConfig(web))


def until(true: Callable[[], bool], seconds: float = 40) -> None:
    """Return once something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"still not so after {seconds} s"
        time.sleep(0.02)
