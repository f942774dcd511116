"""H.264 in MP4, MOV or Matroska by PyAV, with the time of each picture, playable up to its end at any moment."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ....bundle.errors import SinkError
from ..output_files import MARK
from .encoder import VideoFormat
from .sound import SoundCopy

_TICKS = 90_000  # parts of a second in which MPEG counts time
_KEY_EVERY = 1.0  # seconds between key frames: what an interruption can cost, and the step in which players seek
# x264 first: everywhere the same quality. The others are what a build without it has.
_ENCODERS = ("libx264", "h264_nvenc", "h264_v4l2m2m", "libopenh264", "mpeg4")
_X264 = {"preset": "superfast", "crf": "21", "bf": "0"}  # as large as OpenCV's MPEG-4, for 10 ms a picture of 1280x960
_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
# Fragments first, which can be read when the rest is missing; at the end they become an ordinary file with one index.
# Readers as old as FFmpeg 4 find the fragments behind an empty index only.
_MOVFLAGS = {"movflags": "hybrid_fragmented+frag_keyframe+empty_moov"}
_OLD_MOVFLAGS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}  # FFmpeg before 8
_CLUSTERS = {"cluster_time_limit": "1000", "flush_packets": "1"}


class PyavEncoder:
    """A `VideoEncoder`."""

    def __init__(self, av: Any, video: VideoFormat) -> None:
        """Raises `SinkError` where there is no encoder, `OSError` where the file cannot be written."""
        self._av = av
        self._video = video
        self._file = video.path.open("wb", buffering=0)  # each write is one of the system's: nothing is held back
        self._waiting: Any = None  # the last packet, whose duration the next one tells
        self._last = -1  # time stamp of the last picture
        self._key = -1.0  # time of the last key frame
        self._step = max(1, round(_TICKS / video.fps))
        self._sound: SoundCopy | None = None
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        video = self._video
        kind = _CONTAINERS.get(video.suffix, "mp4")
        hybrid = self._av.library_versions["libavformat"] >= (61, 5)
        options = _CLUSTERS if kind == "matroska" else _MOVFLAGS if hybrid else _OLD_MOVFLAGS
        if video.sound is not None and kind != "matroska":
            options = {**options, "use_editlist": "1"}  # without, sound that starts late starts with the picture
        if SoundCopy.needs_late_index(video):
            options = {**options, "movflags": options["movflags"] + "+delay_moov"}
        self._container = self._av.open(self._file, "w", format=kind, options=options)
        self._container.metadata["comment"] = MARK
        try:
            self._stream = self._encoder()
            self._sound = SoundCopy.of(self._av, self._container, video)
        except BaseException:
            with suppress(self._av.error.FFmpegError, OSError):
                self._container.close()
            raise

    def _encoder(self) -> Any:
        for name in _ENCODERS:
            try:
                # x264 may think of the rate what it likes; what counts are the time stamps.
                stream = self._container.add_stream(
                    name, rate=Fraction(max(self._video.fps, 1.0)).limit_denominator(1001)
                )
                break
            except (ValueError, self._av.error.FFmpegError):  # not in this build
                continue
        else:
            raise SinkError(f"PyAV has none of the encoders {' '.join(_ENCODERS)}; save as .avi, or to a folder")
        height, width = self._video.size
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.gop_size = 600
        if name == "libx264":
            # Without delay what a kill can cost is the second of one fragment, not also the frames in the encoder.
            stream.codec_context.options = {**_X264, "tune": "zerolatency"} if self._video.live else dict(_X264)
        return stream

    def add(self, picture: npt.NDArray[np.uint8], time: float) -> None:
        """Encode a picture."""
        frame = self._av.VideoFrame.from_ndarray(picture, format="bgr24")
        stamp = max(round(time * _TICKS), self._last + 1)
        frame.pts, frame.time_base, self._last = stamp, Fraction(1, _TICKS), stamp
        if time - self._key >= _KEY_EVERY or self._key < 0:
            frame.pict_type, self._key = self._av.video.frame.PictureType.I, time
        try:
            self._mux(self._stream.encode(frame))
            if self._sound is not None:
                self._sound.copy_until(time)
        except self._av.error.FFmpegError as error:  # of which not all are errors of the system
            raise OSError(error.errno, error.strerror) from error

    def close(self) -> None:
        """Write the index; what was in the file before can be read even if this fails."""
        try:
            self._mux(self._stream.encode(None))
            if self._waiting is not None:
                # The last picture stays as long as the one before it.
                self._waiting.duration = self._step
                self._container.mux(self._waiting)
                self._waiting = None
            if self._sound is not None:
                self._sound.copy_until((self._last + self._step) / _TICKS)
        except self._av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error
        finally:
            self._free()

    def _free(self) -> None:
        """Close everything. A container that is left to the garbage collector with its file crashes the process."""
        try:
            if self._sound is not None:
                self._sound.close()
            self._container.close()
        except self._av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error
        finally:
            self._file.close()

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            if self._waiting is not None:
                self._step = max(1, packet.pts - self._waiting.pts)
                self._waiting.duration = self._step
                self._container.mux(self._waiting)
            self._waiting = packet
