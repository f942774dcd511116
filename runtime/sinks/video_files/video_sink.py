"""Annotated video files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ....bundle.errors import SinkError, note
from ....bundle.letterbox import Letterbox
from ...capture.source import Sound
from ...capture.video_files.opencv_path import opencv_path
from ...frame import Frame
from ...inference.prediction import Prediction
from ...opencv import cv2
from ...status import Status
from ..sink import SinkRequest
from ..staging import InPlace, OutputFile, Staged, cannot_write
from .encoder import VideoEncoder, VideoFormat
from .encoders import open_encoder

_LONGEST_GAP = 2.0  # seconds that a picture of a live source lasts at most
_LEAST_FREE = 4 * 2**20  # bytes: room to complete the file in


class VideoSink:
    """A video of the size of its first frame; frames of other sizes are fitted into it, their aspect kept.

    Each picture is shown for as long as its frame was. Whatever ends the run, what was written is completed and kept.
    Of a live source it plays in real time, a loss cut short, and the file stands under its own name from the first
    picture on, so that SIGKILL leaves it as well.
    """

    wants_picture = True

    def __init__(
        self,
        path: Path,
        fps: float,
        *,
        live: bool = False,
        sound: Sound | None = None,
        warn: Callable[[str], None] = note,
    ) -> None:
        """`fps` is the nominal rate of the frames; their own times count. `warn` is called with what the file will lack."""
        self.place: str | None = str(path)
        self.frames = 0  # pictures written
        self._live = live
        self._fps = fps
        self._sound = sound
        self._warn = warn
        self._file: OutputFile = InPlace(path) if live else Staged(path)
        self._encoder: VideoEncoder | None = None
        self._size = (0, 0)  # height, width
        self._fits = True  # whether every picture had the size of the first
        self._time = 0.0  # in the video, of the last picture
        self._last: float | None = None  # time of its frame
        self._failed = False  # whether the disk is full
        self._finished = False

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Encode the picture."""
        assert picture is not None
        self._check_space()
        try:
            if self._encoder is None:
                # 4:2:0 video has even sides.
                self._size = picture.shape[0] + picture.shape[0] % 2, picture.shape[1] + picture.shape[1] % 2
                self._encoder = self._open()
            if self._last is not None:
                passed = max(0.0, frame.time - self._last)
                self._time += min(passed, _LONGEST_GAP) if self._live else passed
            if self._fits and not _only_padded(picture, self._size):
                self._fits = False
                self._warn(
                    f"{self.place} keeps the size of its first frame, {self._size[1]}x{self._size[0]}: frames of other "
                    "sizes are scaled into it; boxes in JSON are of each frame's own size"
                )
            self._encoder.add(_fitted(picture, self._size), self._time)
        except OSError as error:
            self._failed = True
            raise cannot_write(self._file.target, error, self._kept()) from error
        self._last = frame.time
        self.frames += 1
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Files hold frames only."""
        return True

    def finish(self) -> None:
        """Complete the file and let it appear; nothing happens the second time."""
        if self._finished:
            return
        self._finished = True
        encoder, self._encoder = self._encoder, None
        complete = self.frames > 0
        try:
            if encoder is not None:
                complete = False
                encoder.close()
                complete = True
        except OSError as error:
            raise cannot_write(self._file.target, error) from error
        finally:
            if complete or (self.frames and _plays(self._file.work)):
                self._file.commit()
            else:
                self._file.discard()

    def close(self) -> None:
        """Without `finish`, as after an error: what was written is completed and kept."""
        if self._finished:
            return
        with suppress(SinkError):
            self.finish()
            if self.frames and not self._live and not self._failed:
                self._warn(f"{self.place} holds the {self.frames} frames before the run ended")

    def _open(self) -> VideoEncoder:
        suffix = self._file.target.suffix.lower()
        sound = None if self._live else self._sound
        return open_encoder(VideoFormat(self._file.work, suffix, self._size, self._fps, self._live, sound, self._warn))

    def _check_space(self) -> None:
        # An encoder that meets a full disk may say nothing, and a file that is to be completed needs room.
        try:
            if not self._file.work.exists():
                raise FileNotFoundError(2, "No such file or directory: it was deleted")
            free = shutil.disk_usage(self._file.work.parent).free
        except OSError as error:  # the folder is gone
            raise cannot_write(self._file.target, error) from error
        if free < _LEAST_FREE:
            self._failed = True
            raise SinkError(
                f"cannot write {self.place} (less than {_LEAST_FREE >> 20} MiB left on its disk){self._kept()}; "
                "free some space or choose another place"
            )

    def _kept(self) -> str:
        return f"; its first {self.frames} frames are kept" if self.frames else ""


def open_sink(request: SinkRequest) -> VideoSink:
    """A video in the format that the name's suffix says."""
    source = request.source
    return VideoSink(Path(request.target), source.fps, live=source.live, sound=source.sound, warn=request.warn)


def _plays(path: Path) -> bool:
    """Whether a file that was cut off can be opened, and has a picture."""
    with opencv_path(path) as name:
        capture = cv2.VideoCapture(name)
        read, _ = capture.read()
        capture.release()
    return bool(read)


def _only_padded(picture: npt.NDArray[np.uint8], size: tuple[int, int]) -> bool:
    """Whether a picture has the size of the video but for the pixel that makes a side even."""
    height, width = picture.shape[:2]
    return size[0] - height in (0, 1) and size[1] - width in (0, 1)


def _fitted(picture: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """`picture` centred in black (height, width, 3), scaled only if it differs by more than the even-size pixel."""
    if picture.shape[:2] == size:
        return picture
    height, width = picture.shape[:2]
    if not _only_padded(picture, size):
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
