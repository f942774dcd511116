"""Videos decoded by PyAV: the container's own time stamps, frames of any size, damaged ones told from the end."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ....bundle.addresses import redact_address, scheme_of
from ....bundle.errors import SourceError
from ..source import Sound
from .decoder import STDIN, Image
from .failures import CONVERT, why_unreadable
from .frame_times import FIRST_PACKETS, FrameTimes, rise

_PATIENCE = 15.0  # seconds that a server may send nothing
_USUAL_FPS = 25.0


class PyavDecoder:
    """A `VideoDecoder`."""

    def __init__(self, av: Any, place: str) -> None:
        self._av = av
        self._web = scheme_of(place) is not None
        self._shown = "standard input" if place == STDIN else redact_address(place)
        self.skipped = 0
        self.broken: str | None = None
        # An absolute path, since FFmpeg takes what stands before a colon for a protocol.
        name = "pipe:0" if place == STDIN else place if self._web else os.path.abspath(place)
        self._container = self._opened(name, place)
        self._stream = self._picture_track()
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate and 0 < rate <= 1000 else _USUAL_FPS
        self.promised: int | None = self._stream.frames or None
        self.total = self.promised or self._estimated_total()
        self.sound: Sound | None = None
        self._file = Path(name) if not self._web and place != STDIN and os.path.isfile(name) else None
        self._frames = self._decoded()
        self._ready: deque[tuple[Image, float]] = deque()
        self._first_time: float | None = None

    def _opened(self, name: str, place: str) -> Any:
        timeout = (_PATIENCE, _PATIENCE) if self._web else None
        try:
            return self._av.open(name, timeout=timeout, metadata_errors="replace")
        except self._av.error.ExitError as error:
            raise SourceError(
                f"{self._shown} accepts the connection and sends nothing for {_PATIENCE:g} s; check that the sender "
                "runs"
            ) from error
        except self._av.error.HTTPError as error:
            raise SourceError(
                f"{self._shown} cannot be read ({error.strerror}); check the address and the password"
            ) from error
        except self._av.error.InvalidDataError as error:
            raise SourceError(
                why_unreadable(self._shown, None if self._web or place == STDIN else place, place)
            ) from error
        except (self._av.error.FFmpegError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"cannot read {self._shown} ({reason}); check the address or the file") from error

    def _picture_track(self) -> Any:
        # A cover picture of a song is a video track to FFmpeg.
        tracks = [track for track in self._container.streams.video if not _is_cover(self._av, track)]
        try:
            if not tracks:
                others = ", ".join(sorted({f"{track.type} {_codec_name(track)}" for track in self._container.streams}))
                raise SourceError(f"{self._shown} has no picture track (it has: {others or 'nothing'}); give a video")
            track = self._container.streams.best("video") or tracks[0]
            track = track if track in tracks else tracks[0]
            if track.codec_context is None:
                raise SourceError(f"{self._shown}: its codec has no decoder here; {CONVERT}")
        except BaseException:
            self._container.close()
            raise
        return track

    def _estimated_total(self) -> int | None:
        duration = self._container.duration  # microseconds
        return max(1, round(duration / 1e6 * self.fps)) if duration and duration > 0 else None

    def read(self) -> tuple[Image, float] | None:
        """The next frame that decodes and its time."""
        found = next(self._frames, None)
        if found is not None and self._first_time is None:
            self._first_time = found[1]
            self.sound = self._find_sound(found[1])
        return found

    def close(self) -> None:
        """Free the decoder."""
        with suppress(self._av.error.FFmpegError):
            self._container.close()

    def _find_sound(self, start: float) -> Sound | None:
        tracks = self._container.streams.audio
        if not tracks:
            return None
        codec = _codec_name(tracks[0])
        framed = codec == "aac" and not tracks[0].codec_context.extradata
        return Sound(codec, self._file, start, framed, len(tracks))

    def _decoded(self) -> Iterator[tuple[Image, float]]:
        for frame, time in self._raw_frames():
            try:
                image = frame.to_ndarray(format="bgr24")
            except (ValueError, self._av.error.FFmpegError):
                self.skipped += 1
                continue
            turns = round(frame.rotation / 90) % 4
            yield np.ascontiguousarray(np.rot90(image, turns)) if turns else image, time

    def _raw_frames(self) -> Iterator[tuple[Any, float]]:
        packets = self._packets()
        reorders = bool(self._stream.codec_context.has_b_frames)
        first: list[Any] = []
        while reorders and len(first) < FIRST_PACKETS and rise(first):
            packet = next(packets, None)
            if packet is None:
                break
            first.append(packet)
        times = FrameTimes(self.fps, decoding=reorders and len(first) > 1 and rise(first))
        for packet in chain(first, packets):
            times.sent(packet)
            for frame in self._decode(packet, times):
                yield frame, times.of(frame)

    def _packets(self) -> Iterator[Any]:
        """Up to the end or an error, the last one empty: what the decoder still holds comes out with it."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (self._av.error.FFmpegError, OSError) as error:
                self.broken = str(getattr(error, "strerror", None) or error)
                packet = self._av.Packet()
            if packet is not None:
                yield packet
            if packet is None or self.broken is not None:
                return

    def _decode(self, packet: Any, times: FrameTimes) -> list[Any]:
        try:
            frames: list[Any] = self._stream.codec_context.decode(packet)
        except self._av.error.EOFError:
            return []
        except self._av.error.FFmpegError:
            self.skipped += 1
            times.failed(packet)
            return []
        return frames


def _is_cover(av: Any, track: Any) -> bool:
    return bool(track.disposition & av.stream.Disposition.attached_pic)


def _codec_name(track: Any) -> str:
    """Of the format, such as "mp3", not of the decoder, such as "mp3float"."""
    return str(track.codec_context.codec.canonical_name) if track.codec_context is not None else "of an unknown codec"
