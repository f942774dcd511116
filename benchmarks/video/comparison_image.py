"""An image of consecutive frames in two rows: without and with temporal smoothing."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...runtime.draw.overlay import Style, draw, write_lines
from ...runtime.inference.prediction import Prediction
from ...runtime.opencv import cv2
from ..picture_file import write_picture_file
from .video import Mode

_FRAMES = 5
_WIDTH = 360  # pixels of one frame
_GAP = 4  # pixels between them

Image = npt.NDArray[np.uint8]


class ComparisonImage:
    """Selects the consecutive frames for which smoothing prevents the most label changes."""

    def __init__(self, plain: Mode, smoothed: Mode) -> None:
        self._modes = (plain, smoothed)
        self._recent: deque[tuple[Image, Prediction, Prediction, int]] = deque(maxlen=_FRAMES)
        self._best: list[tuple[Image, Prediction, Prediction, int]] = []

    def new_clip(self) -> None:
        """Start a clip: frames of different clips are not consecutive."""
        self._recent.clear()

    def see(self, image: Image, found: dict[Mode, Prediction], changes: dict[Mode, int]) -> None:
        """Callback of `measure_clip`."""
        plain, smoothed = self._modes
        self._recent.append((image, found[plain], found[smoothed], changes[plain] - changes[smoothed]))
        if len(self._recent) == _FRAMES and _gain(list(self._recent)) > _gain(self._best):
            self._best = list(self._recent)

    def picture(self) -> Image | None:
        """Both rows (H, W, 3) BGR; None if no clip had enough frames."""
        if not self._best:
            return None
        rows = []
        for row, title in enumerate(("the network alone", f"--smooth {self._modes[1].smooth:g}")):
            tiles = [_tile(image, predictions[row]) for image, *predictions, _ in self._best]
            tiles[0] = write_lines(tiles[0], [title])
            rows.append(np.concatenate(_spaced(tiles, 1), 1))
        return np.concatenate(_spaced(rows, 0), 0)

    def write(self, path: Path) -> None:
        """Write the picture, if there is one. Raises `SinkError`."""
        picture = self.picture()
        if picture is not None:
            write_picture_file(path, picture)


def _gain(frames: list[tuple[Image, Prediction, Prediction, int]]) -> float:
    """Share of pixels kept constant by smoothing; changes of the first frame lie before the selection."""
    return sum(gain for *_, gain in frames[1:]) / frames[0][0].size if frames else 0.0


def _tile(image: Image, prediction: Prediction) -> Image:
    painted = draw(image, prediction, Style(opacity=0.65, names=False, legend=False, figures=False))
    height = round(image.shape[0] * _WIDTH / image.shape[1])
    tile: Image = cv2.resize(painted, (_WIDTH, height), interpolation=cv2.INTER_AREA)
    return tile


def _spaced(parts: list[Image], axis: int) -> list[Image]:
    """The parts with white gaps between them."""
    shape = list(parts[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, 255, np.uint8)
    return [piece for part in parts for piece in (part, gap)][:-1]
