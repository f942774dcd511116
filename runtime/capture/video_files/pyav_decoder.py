"""Videos decoded by PyAV: the container's own time stamps, frames of any size, damaged ones told from the end."""

from __future__ import annotations

import os
import re
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
from .losses import Losses
from .matroska import is_broken
from .packet_decoder import PacketDecoder

_PATIENCE = 15.0  # seconds that a server may send nothing
_USUAL_FPS = 25.0
_MOST_SHORT = 1.0  # seconds that a track may end before its stated end


class PyavDecoder:
    """A `VideoDecoder`."""

    def __init__(self, av: Any, place: str) -> None:
        self._av = av
        self._web = scheme_of(place) is not None
        self._shown = "standard input" if place == STDIN else redact_address(place)
        self.broken: str | None = None
        # An absolute path, since FFmpeg takes what stands before a colon for a protocol.
        name = "pipe:0" if place == STDIN else place if self._web else os.path.abspath(place)
        self._container = self._opened(name, place)
        self._stream = self._picture_track()
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.fps = float(rate) if rate and 0 < rate <= 1000 else _USUAL_FPS
        # Of a GIF it is what was found in the file.
        self.promised: int | None = self._stream.frames or None if self._container.format.name != "gif" else None
        self.total = self.promised or self._estimated_total()
        self.sound: Sound | None = None
        self._file = Path(name) if not self._web and place != STDIN and os.path.isfile(name) else None
        self._decoder = PacketDecoder(av, self._stream.codec_context, self._another)
        self._losses = Losses(self.fps)
        self._unreadable = 0  # decoded frames of a kind that has no pixels
        self._read = 0  # packets
        self._end = 0.0  # of the last packet, in seconds on the file's clock
        self._ended = False
        self._frames = self._decoded()
        self._first_time: float | None = None

    def _opened(self, name: str, place: str) -> Any:
        timeout = (_PATIENCE, _PATIENCE) if self._web else None
        # What comes through a pipe may be a playlist of addresses and other files.
        options = {} if self._web else {"protocol_whitelist": "pipe" if place == STDIN else "file"}
        try:
            return self._av.open(name, options=options, timeout=timeout, metadata_errors="replace")
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

    @property
    def skipped(self) -> int:
        """Frames that did not decode, so far."""
        return self._decoder.skipped + self._unreadable

    @property
    def damaged(self) -> int:
        """Frames that came with errors, so far."""
        return self._losses.damaged

    @property
    def missing(self) -> int:
        """Frames that are known to be lost, beside those that did not decode."""
        within = self._losses.missing
        if self._ended and self._losses.unexplained and self._file is not None and is_broken(self._file):
            within += self._losses.unexplained
        return max(0, within - self.skipped) + (self._missing_at_the_end() if self._ended else 0)

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
                self._unreadable += 1
                continue
            yield _upright(image, frame.side_data.get("DISPLAYMATRIX")), time

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
            failed = self._decoder.skipped
            for frame in self._decoder.decode(packet):
                time = times.of(frame)
                self._losses.frame(time, self._seconds(frame), corrupt=frame.is_corrupt)
                yield frame, time
            if packet.is_corrupt or self._decoder.skipped > failed:
                self._losses.fault()
        self._ended = True

    def _note(self, packet: Any) -> None:
        """Count a packet, and how far the file goes with it."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.size:
            self._read += 1
            if stamp is not None:
                self._end = max(self._end, float(stamp * self._stream.time_base) + self._seconds(packet))

    def _seconds(self, frame: Any) -> float:
        """How long a frame or packet lasts; 0 where that is not told."""
        return float(frame.duration * self._stream.time_base) if frame.duration else 0.0

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
                self._note(packet)
                yield packet
            if packet is None or self.broken is not None:
                return

    def _another(self) -> Any | None:
        """A decoder of the same track that works on one packet after the other; None where there is no file."""
        if self._file is None:
            return None
        try:
            with self._av.open(os.fspath(self._file), metadata_errors="replace") as container:
                context = container.streams[self._stream.index].codec_context
                context.thread_type = "NONE"
                context.open(strict=False)
                return context
        except (self._av.error.FFmpegError, OSError, IndexError):
            return None

    def _missing_at_the_end(self) -> int:
        """Frames between the last packet and the end that the container states."""
        stream, container = self._stream, self._container
        if self.promised is not None:
            if not stream.duration:
                return 0
            end = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
            # Some frames of an index need not be in a file: an edit list leaves them out, an AVI repeats the last one.
            return max(0, min(self.promised - self._read, round((end - self._end) * self.fps)))
        if "matroska" not in container.format.name or not container.duration or not self._losses.constant:
            return 0
        end = container.duration / 1e6
        if len(container.streams) > 1:  # of which the longest may be another
            end = min(end, _clock(stream.metadata.get("DURATION", "")))
        return round((end - self._end) * self.fps) if end - self._end > _MOST_SHORT else 0


def _is_cover(av: Any, track: Any) -> bool:
    return bool(track.disposition & av.stream.Disposition.attached_pic)


def _codec_name(track: Any) -> str:
    """Of the format, such as "mp3", not of the decoder, such as "mp3float"."""
    return str(track.codec_context.codec.canonical_name) if track.codec_context is not None else "of an unknown codec"


def _upright(image: Image, matrix: Any | None) -> Image:
    """The image turned by quarters and mirrored as the display matrix (ISO 14496-12, 8.3.2) of its frame says."""
    if matrix is None:
        return image
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _clock(text: str) -> float:
    """The seconds of "00:01:42.5"; 0 for what is no time."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text.strip())
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else 0.0
