"""Network streams opened by PyAV: each picture in its own size, and the reason where nothing comes."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from ....bundle.errors import SourceError
from ...opencv import cv2

_MOST_DAMAGED = 200  # packets in a row that do not decode, after which the stream counts as lost


class PyavCapture:
    """A `Capture` of the stream at a URL."""

    def __init__(self, av: Any, url: str, *, rtsp: bool, open_seconds: float, read_seconds: float) -> None:
        """Raises `SourceError` with the reason alone: the caller adds the name of the stream."""
        self._av = av
        options = {"rtsp_transport": "tcp"} if rtsp else {}
        try:
            self._container = av.open(
                url, options=options, timeout=(open_seconds, read_seconds), metadata_errors="replace"
            )
        except av.error.ExitError as error:
            raise SourceError(f"nothing came within {open_seconds:g} s") from error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(str(getattr(error, "strerror", None) or error)) from error
        tracks = self._container.streams.video
        if not tracks or tracks[0].codec_context is None:
            self.release()
            raise SourceError("it has no picture track that can be decoded here")
        self._stream = tracks[0]
        self._stream.thread_type = "SLICE"  # threads that work on several frames hold each back by as many
        self._packets = self._container.demux(self._stream)
        self._ready: deque[Any] = deque()
        # A picture that no other needs is left as it is, as all of Motion JPEG are.
        self._alone = bool(getattr(self._stream.codec_context.codec, "intra_only", False))

    def read(self) -> tuple[bool, npt.NDArray[np.uint8] | None]:
        """Wait for the next picture; (False, None) at the end, or where nothing comes for too long."""
        if not self._decode():
            return False, None
        frame = self._ready.popleft()
        image = frame.to_ndarray(format="bgr24")
        turns = round(frame.rotation / 90) % 4
        return True, np.ascontiguousarray(np.rot90(image, turns)) if turns else image

    def skip(self) -> bool:
        """Wait for the next picture and leave it, undecoded where no later one needs it; False at the end."""
        if self._alone and not self._ready:
            packet = self._packet()
            return packet is not None and packet.size > 0
        if not self._decode():
            return False
        self._ready.popleft()
        return True

    def _decode(self) -> bool:
        """Have a picture ready; False at the end."""
        damaged = 0
        while not self._ready:
            packet = self._packet()
            if packet is None:
                return False
            try:
                self._ready.extend(self._stream.codec_context.decode(packet))
            except self._av.error.EOFError:
                return False
            except self._av.error.FFmpegError:
                damaged += 1
                if damaged >= _MOST_DAMAGED:
                    return False
        return True

    def _packet(self) -> Any:
        """The next packet; None where the connection is lost."""
        try:
            return next(self._packets, None)
        except (self._av.error.FFmpegError, OSError):
            return None

    def get(self, prop: int) -> float:
        """The rate."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if prop == cv2.CAP_PROP_FPS and rate else 0.0

    def release(self) -> None:
        """Close the connection."""
        with suppress(self._av.error.FFmpegError):
            self._container.close()
