"""Which frames of a video are labelled: every so many seconds, every Nth, or the first of each scene."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError

_SMALL = (64, 36)  # width, height at which frames are compared
_CUT = 27.0  # mean change of hue, saturation and value, 0..255, that is a cut
_SHORTEST = 0.5  # seconds of a scene: a flash is no scene
_MOST = 1e7  # seconds, or frames

Image = npt.NDArray[np.uint8]  # (H, W, 3) BGR


class SamplingKind(Enum):
    """What is counted between two frames."""

    SECONDS = "s"
    FRAMES = "f"
    SCENES = "scene"


@dataclass(frozen=True)
class Sampling:
    """`--every`: 1s, 500ms, 2m, 10f, or scene."""

    kind: SamplingKind = SamplingKind.SECONDS
    step: float = 1.0  # seconds or frames

    @classmethod
    def parse(cls, text: str) -> Sampling:
        """Raises `UsageError`."""
        word = text.strip().lower()
        if word == "scene":
            return cls(SamplingKind.SCENES, 0)
        found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|m|h|f)", word)
        if found is not None:
            number = float(found[1]) * {"ms": 1e-3, "s": 1, "m": 60, "h": 3600, "f": 1}[found[2]]
            if found[2] == "f" and number >= 1 and number == int(number):
                return cls(SamplingKind.FRAMES, number)
            if found[2] != "f" and 0 < number < _MOST:
                return cls(SamplingKind.SECONDS, number)
        raise UsageError(f"--every is {text[:40]!r}, expected a time such as 1s, 500ms or 2m, frames as 10f, or scene")

    def __str__(self) -> str:
        """As `parse` reads it."""
        if self.kind is SamplingKind.SCENES:
            return "scene"
        return f"{self.step:g}{self.kind.value}"

    def chooser(self) -> Chooser:
        """What decides, frame after frame of one video."""
        if self.kind is SamplingKind.SCENES:
            return _Scenes()
        return _Steps(self.step) if self.kind is SamplingKind.SECONDS else _EveryNth(int(self.step))

    def estimate(self, frames: int | None, fps: float) -> int | None:
        """How many frames of a video will be chosen, for the progress; None where that is not known."""
        if frames is None or self.kind is SamplingKind.SCENES:
            return None
        return math.ceil(frames / (self.step if self.kind is SamplingKind.FRAMES else max(1.0, self.step * fps)))


class Chooser(Protocol):
    """Asked once for each frame, in order."""

    def takes(self, image: Image, time: float) -> bool:
        """Whether the frame at `time` seconds is labelled."""
        ...


class _Steps:
    def __init__(self, step: float) -> None:
        self._step = step
        self._due = 0.0

    def takes(self, image: Image, time: float) -> bool:
        if time + 1e-6 < self._due:
            return False
        self._due = (math.floor((time + 1e-6) / self._step) + 1) * self._step
        return True


class _EveryNth:
    def __init__(self, step: int) -> None:
        self._step = step
        self._seen = -1

    def takes(self, image: Image, time: float) -> bool:
        self._seen += 1
        return self._seen % self._step == 0


class _Scenes:
    """A cut is a sudden change of colours all over the picture, as the content detectors of video tools measure it."""

    def __init__(self) -> None:
        self._before: npt.NDArray[np.float32] | None = None
        self._since = 0.0

    def takes(self, image: Image, time: float) -> bool:
        from ...runtime.opencv import cv2  # here: the command line reads `--every` without OpenCV

        small = cv2.resize(image, _SMALL, interpolation=cv2.INTER_AREA)
        colours = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2HSV), np.float32)
        before, self._before = self._before, colours
        if before is None:
            self._since = time
            return True
        change = np.abs(colours - before)
        change[..., 0] = np.minimum(change[..., 0], 180 - change[..., 0])  # hue is a circle of 180 steps
        if float(change.mean()) < _CUT or time - self._since < _SHORTEST:
            return False
        self._since = time
        return True
