"""Cameras, always at their newest frame.

A camera does not wait. Read in step with a slower network, its driver's queue fills and the picture falls behind the
world. So a thread reads everything and keeps one frame: the newest.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ovs_edge.bundle.errors import SourceError
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.status import PLAYING

_PATIENCE = 5.0  # seconds without a frame after which a camera counts as lost
_USUAL_FPS = 30.0


class CameraSource:
    """A camera by number ("0") or device ("/dev/video0")."""

    live = True
    moving = True
    state = PLAYING
    dropped = 0
    total: int | None = None

    def __init__(self, device: str) -> None:
        self.name = f"camera {device}"
        number = device.isascii() and device.isdigit() and len(device) < 6
        if not number and not os.path.exists(device):
            raise SourceError(f"no camera {device[:80]!r}; expected a number or a device. {_advice()}")
        self._capture = cv2.VideoCapture(int(device) if number else device)
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(f"{self.name} does not open. {_advice()}")
        # The shortest queue the driver grants; not every driver knows the setting.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 1 <= fps <= 1000 else _USUAL_FPS
        self._changed = threading.Condition()
        self._newest: tuple[Any, int, float] | None = None  # image, its number, when it came
        self._closed = False
        self._lost = False
        self._reader: threading.Thread | None = None

    def __iter__(self) -> Iterator[Frame]:
        with self._changed:
            if self._reader is None and not self._closed:
                self._reader = threading.Thread(target=self._read, name="camera", daemon=True)
                self._reader.start()
        frames, start = 0, None
        while True:
            with self._changed:
                ready = self._changed.wait_for(lambda: self._newest or self._lost or self._closed, _PATIENCE)
                newest, self._newest = self._newest, None
            if self._closed:
                return
            if newest is None:
                reason = "stopped sending frames" if ready else f"sent no frame for {_PATIENCE:g} s"
                raise SourceError(f"{self.name} {reason} after {frames} frames. {_advice()}")
            image, index, arrival = newest
            start = arrival if start is None else start
            yield Frame(image, index, arrival - start, f"camera_{index:06d}", arrival)
            frames += 1

    def close(self) -> None:
        """Stop reading. A driver that hangs in a read keeps its thread; it holds nobody up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            reader = self._reader
        if reader is not None:
            reader.join(_PATIENCE)
        else:
            self._capture.release()

    def _read(self) -> None:
        index = 0
        while not self._closed:
            read, image = self._capture.read()
            with self._changed:
                if read:
                    self.dropped += self._newest is not None
                    self._newest = image, index, time.monotonic()
                    index += 1
                else:
                    self._lost = True
                self._changed.notify_all()
            if not read:
                break
        self._capture.release()


def _advice() -> str:
    devices = " ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
    return f"Devices here: {devices}. Check the cable, that no other program has it, and your rights (group 'video')"
