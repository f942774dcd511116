"""Video files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ovs_edge.bundle.errors import SourceError
from ovs_edge.runtime.frame import Frame
from ovs_edge.runtime.opencv import cv2
from ovs_edge.runtime.status import PLAYING

_LIKELY_FPS = (1.0, 1000.0)  # what lies outside is a container without a rate
_USUAL_FPS = 25.0


class VideoSource:
    """Every frame of a video file, in order."""

    live = False
    moving = True
    state = PLAYING
    dropped = 0

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._stem = path.stem
        try:
            with path.open("rb") as stream:
                size = len(stream.read(1))
        except OSError as error:
            raise SourceError(f"cannot read {path} ({error.strerror}); check the file and its permissions") from error
        self._capture = cv2.VideoCapture(str(path)) if size else None
        read, first = self._capture.read() if self._capture is not None else (False, None)
        if self._capture is None or not read:
            self.close()
            raise SourceError(
                f"{path} does not decode as a video; expected a video such as .mp4 or .avi, or a photo (.jpg, .png)"
            )
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
            read, image = self._capture.read() if self._capture is not None else (False, None)
            if not read:
                return

    def close(self) -> None:
        """Free the decoder."""
        if self._capture is not None:
            self._capture.release()
        self._capture = None
