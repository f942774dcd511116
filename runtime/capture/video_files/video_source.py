"""Video files, on disk, at a web address, or through a pipe."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from ....bundle.addresses import redact_address
from ....bundle.errors import SourceError
from ...frame import Frame
from ...opencv import cv2
from ...status import PLAYING
from ..options import refuse_live_options, refuse_photo_options
from ..source import Sound, SourceRequest

STDIN = "-"
_LIKELY_FPS = (1.0, 1000.0)  # what lies outside is a container without a rate
_USUAL_FPS = 25.0
_LEAVE = 1.0  # seconds that `close` waits for a read under way


class VideoSource:
    """Every frame of a video, in order."""

    live = False
    moving = True
    state = PLAYING
    dropped = 0
    skipped = 0
    truncated: str | None = None
    sound: Sound | None = None
    files: tuple[Path, ...] = ()

    def __init__(self, place: Path | str) -> None:
        """`place`: a file or a pipe's path, an http address, or "-" for standard input."""
        place = str(place)
        self.name = "standard input" if place == STDIN else redact_address(place)
        self._stem = "stdin" if place == STDIN else Path(place.partition("?")[0]).stem
        self._busy = threading.Lock()  # a decoder must not be freed under a read
        readable = "://" in place or place == STDIN or _has_content(Path(place))
        self._capture = cv2.VideoCapture("pipe:0" if place == STDIN else place, cv2.CAP_ANY) if readable else None
        read, first = self._capture.read() if self._capture is not None else (False, None)
        if self._capture is None or not read:
            self.close()
            expected = "a video such as .mp4 or .avi, or a photo (.jpg, .png)"
            if place == STDIN:
                # Most MP4 files have their index at the end, and a pipe cannot be wound forward and back.
                expected = (
                    "a video that plays as it comes: MPEG-TS, Matroska, AVI, or MP4 made with -movflags +faststart"
                )
            raise SourceError(f"{self.name} does not decode as a video; expected {expected}")
        self._first = first
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if _LIKELY_FPS[0] <= fps <= _LIKELY_FPS[1] else _USUAL_FPS
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.total: int | None = count if count > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        image, index = self._first, 0
        while image is not None:
            yield Frame(image, index, index / self.fps, f"{self._stem}_{index:06d}")
            index += 1
            with self._busy:
                read, image = self._capture.read() if self._capture is not None else (False, None)
            if not read:
                return

    def close(self) -> None:
        """Free the decoder. One that waits for a pipe is left to the end of the process."""
        if self._busy.acquire(timeout=_LEAVE):
            try:
                if self._capture is not None:
                    self._capture.release()
                self._capture = None
            finally:
                self._busy.release()


def _has_content(path: Path) -> bool:
    """Whether a file has a first byte; a pipe's is left to its reader. Raises `SourceError` where none may be read."""
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            return True
        with path.open("rb") as stream:
            return len(stream.read(1)) > 0
    except OSError as error:
        raise SourceError(f"cannot read {path} ({error.strerror}); check the file and its permissions") from error


def open_source(request: SourceRequest) -> VideoSource:
    """The video at a path, at a web address, or on standard input."""
    refuse_live_options(request.options)
    refuse_photo_options(request.options)
    return VideoSource(request.address)
