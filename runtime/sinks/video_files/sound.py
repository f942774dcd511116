"""The sound of a recording, copied as it is into the annotated video."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import Any

from .encoder import VideoFormat

_FITS = {  # container -> codecs that players expect in it; Matroska takes any
    ".mp4": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"},
    ".m4v": {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"},
    ".mov": {"aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_f32le", "pcm_mulaw"},
}
_IN_PACKETS = {"ac3", "eac3"}  # the index of an MP4 holds what their first packet tells


class SoundCopy:
    """Reads the packets of the source's sound track and writes those that are due."""

    def __init__(self, source: Any, track: Any, container: Any, stream: Any, start: float, rewritten: Any) -> None:
        """`rewritten` is a bit stream filter that packets go through, or None."""
        self._source = source
        self._packets = source.demux(track)
        self._container = container
        self._stream = stream
        self._start = start
        self._rewritten = rewritten
        self._next: Any = None  # read, and not yet due

    @staticmethod
    def needs_late_index(video: VideoFormat) -> bool:
        """Whether the index of an MP4 or MOV can only be written once the first packet of the sound is there."""
        sound = video.sound
        return sound is not None and video.suffix in _FITS and (sound.codec in _IN_PACKETS or sound.framed)

    @classmethod
    def of(cls, av: Any, container: Any, video: VideoFormat) -> SoundCopy | None:
        """The copy of the sound that belongs to `video`; None without one, or with a warning if it is lost."""
        sound = video.sound
        if sound is None:
            return None
        if sound.file is None:
            video.warn("the sound is not copied: the source can only be read once; save it to a file first")
            return None
        if sound.codec not in _FITS.get(video.suffix, {sound.codec}):
            video.warn(f"the sound is not copied: {video.suffix} does not take {sound.codec}; save as .mkv")
            return None
        try:
            source = av.open(os.fspath(sound.file), metadata_errors="replace")
            track = source.streams.audio[0]
            stream = container.add_stream_from_template(track)
            rewritten = None
            if sound.framed and video.suffix in _FITS:
                rewritten = av.bitstream.BitStreamFilterContext("aac_adtstoasc", track)
        except (av.error.FFmpegError, ValueError, IndexError) as error:
            video.warn(f"the sound is not copied ({error})")
            return None
        if sound.tracks > 1:
            video.warn(f"1 of {sound.tracks} sound tracks is copied: the first")
        return cls(source, track, container, stream, sound.start, rewritten)

    def copy_until(self, time: float) -> None:
        """Write the sound up to `time`, in seconds from the first picture."""
        while self._packets is not None:
            packet = self._next if self._next is not None else next(self._packets, None)
            self._next = None
            if packet is None or packet.pts is None:
                self._packets = None
                return
            at = float(packet.pts * packet.time_base) - self._start
            if at > time:
                self._next = packet
                return
            if at >= 0:
                for one in [packet] if self._rewritten is None else self._rewritten.filter(packet):
                    self._write(one)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _write(self, packet: Any) -> None:
        shift = round(Fraction(self._start) / packet.time_base)
        packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        packet.stream = self._stream
        self._container.mux(packet)
