"""Annotated video files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ....bundle.errors import SinkError
from ....bundle.letterbox import Letterbox
from ...frame import Frame
from ...inference.prediction import Prediction
from ...opencv import cv2
from ...status import Status
from ..sink import SinkRequest
from ..staging import Staged, cannot_write

_CODECS = {".avi": "MJPG"}
_USUAL_CODEC = "mp4v"  # H.264 needs a licence, so OpenCV's wheels cannot write it
_LONGEST_GAP = 2.0  # seconds that a picture of a live source lasts at most
_MOST_PARTS = 65_535  # of a second, in MPEG-4
_LEAST_FREE = 4 * 2**20  # bytes; an encoder that meets a full disk says nothing, so ask before


class VideoSink:
    """A video of the size of its first frame; frames of other sizes are fitted into it, their aspect kept.

    Of a live source it plays in real time: a picture lasts until the next one came, be it because the network is
    slower than the camera. A loss is cut short.
    """

    wants_picture = True

    def __init__(self, path: Path, fps: float, *, live: bool = False) -> None:
        """`fps` is the rate at which it plays; `live`: pictures come at times of their own, not at that rate."""
        self.place: str | None = str(path)
        self._fps = _writable(fps)
        self._live = live
        self._last: tuple[npt.NDArray[np.uint8], float] | None = None  # picture as written, its frame's time
        self._owed = 0.0  # frames of time that are not yet filled
        self._staged = Staged(path)
        self._writer: Any = None
        self._size = (0, 0)  # height, width
        self._frames = 0

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Encode the picture."""
        assert picture is not None
        try:
            free = shutil.disk_usage(self._staged.work.parent).free
        except OSError as error:  # the folder is gone
            raise cannot_write(self._staged.target, error) from error
        if free < _LEAST_FREE:
            raise SinkError(
                f"cannot write {self.place} (less than {_LEAST_FREE >> 20} MiB left on its disk); "
                "free some space or choose another place"
            )
        if self._writer is None:
            # 4:2:0 video has even sides.
            self._size = picture.shape[0] + picture.shape[0] % 2, picture.shape[1] + picture.shape[1] % 2
            self._writer = self._open()
        fitted = _fitted(picture, self._size)
        if self._live and self._last is not None:
            last, before = self._last
            self._owed += min(frame.time - before, _LONGEST_GAP) * self._fps - 1
            while self._owed >= 0.5:
                self._add(last)
                self._owed -= 1
            self._owed = max(self._owed, -1.0)  # what comes too fast makes the video slower, and is not made up for
        self._add(fitted)
        self._last = fitted, frame.time
        return True

    def _add(self, picture: npt.NDArray[np.uint8]) -> None:
        self._writer.write(picture)
        self._frames += 1

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Files hold frames only."""
        return True

    def finish(self) -> None:
        """Write the index, check that the file plays to its end, and let it appear."""
        self._release()
        if not self._plays():
            raise SinkError(
                f"cannot write {self.place}: its {self._frames} frames did not all arrive in the file; "
                "free some space, or choose another place or format"
            )
        self._staged.commit()

    def close(self) -> None:
        """Unfinished, the file is removed."""
        self._release()
        self._staged.discard()

    def _open(self) -> Any:
        suffix = self._staged.target.suffix.lower()
        codec = _CODECS.get(suffix, _USUAL_CODEC)
        size = (self._size[1], self._size[0])
        writer = cv2.VideoWriter(str(self._staged.work), cv2.VideoWriter_fourcc(*codec), self._fps, size)
        if not writer.isOpened():
            raise SinkError(
                f"OpenCV cannot open {self.place} as a {codec} video of {size[0]}x{size[1]}; "
                "try .mp4 or .avi, or save to a folder"
            )
        return writer

    def _plays(self) -> bool:
        """Whether every frame is there. Encoders report a failed write to nobody; the index, written last, tells."""
        capture = cv2.VideoCapture(str(self._staged.work))
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.set(cv2.CAP_PROP_POS_FRAMES, self._frames - 1)
        read, _ = capture.read()
        capture.release()
        return bool(read) and count >= self._frames

    def _release(self) -> None:
        if self._writer is not None:
            self._writer.release()
        self._writer = None


def _writable(fps: float) -> float:
    """`fps` with as many digits as it may have: MPEG-4 counts time in at most 65535 parts of a second.

    OpenCV writes a rate as a fraction over 1, 10, 100 or 1000, and the file takes the numerator for those parts.
    """
    return next((round(fps, digits) for digits in (3, 2, 1) if fps * 10**digits < _MOST_PARTS), fps)


def _fitted(picture: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """`picture` centred in black (height, width, 3), scaled only if it differs by more than the even-size pixel."""
    if picture.shape[:2] == size:
        return picture
    height, width = picture.shape[:2]
    if not (size[0] - 1 <= height <= size[0] and size[1] - 1 <= width <= size[1]):
        height, width = Letterbox.fit((height, width), size).scaled
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        canvas = np.zeros((*size, 3), np.uint8)
        canvas[top : top + height, left : left + width] = picture
        return canvas
    bordered: npt.NDArray[np.uint8] = cv2.copyMakeBorder(
        picture, 0, size[0] - height, 0, size[1] - width, cv2.BORDER_REPLICATE
    )
    return bordered


def open_sink(request: SinkRequest) -> VideoSink:
    """A video in the format that the name's suffix says."""
    return VideoSink(Path(request.target), request.source.fps, live=request.source.live)
