"""Opening a device with OpenCV: one way after the other, and what to tell a user when none works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ....bundle.errors import SourceError
from ...opencv import cv2
from ..options import CaptureOptions
from ..video_files.opencv_path import opencv_address, opencv_path

Settings = tuple[tuple[int, float], ...]  # OpenCV's properties and their values


@dataclass(frozen=True)
class Way:
    """One way to open a source with OpenCV."""

    target: int | str  # a device's number, a path, a URL or a GStreamer pipeline
    backend: int  # one of OpenCV's
    command: str  # a shell command that meets the same failure without this program, and says more
    parameters: Settings = ()  # given when opening
    settings: Settings = ()  # set afterwards; a driver may ignore them
    path: bool = False  # whether the target is a path


def open_capture(name: str, ways: Sequence[Way], advice: Callable[[], str]) -> Any:
    """The `cv2.VideoCapture` of the first way that works; raises `SourceError` with every way's command."""
    for way in ways:
        try:
            capture = _capture(way)
        except cv2.error:  # a backend that is not there
            continue
        if capture.isOpened():
            for prop, value in way.settings:
                capture.set(prop, value)
            return capture
        capture.release()
    commands = "; or ".join(way.command for way in ways)
    raise SourceError(f"{name} does not open. {advice()}. To see why, run: {commands}")


def _capture(way: Way) -> Any:
    words = [int(word) for pair in way.parameters for word in pair]
    if isinstance(way.target, int):
        return cv2.VideoCapture(way.target, way.backend, words)
    with opencv_path(way.target) if way.path else opencv_address(way.target) as target:
        return cv2.VideoCapture(target, way.backend, words)


def check_granted(name: str, capture: Any, options: CaptureOptions, advice: Callable[[], str]) -> None:
    """Raise `SourceError` where a driver chose another size or rate than it was asked for, which it does in silence."""
    size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    rate = float(capture.get(cv2.CAP_PROP_FPS))
    wrong = []
    if options.size is not None and size != options.size:
        wrong.append(f"{size[0]}x{size[1]} pixels, not {options.size[0]}x{options.size[1]}")
    if options.rate is not None and abs(rate - options.rate) > 0.05 * options.rate:
        wrong.append(f"{rate:g} frames a second, not {options.rate:g}")
    if wrong:
        raise SourceError(f"{name} gives {' and '.join(wrong)}; ask for one of its own modes. {advice()}")
