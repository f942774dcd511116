"""What every source of frames offers, and what is asked of the one that opens it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ...bundle.errors import note
from ..frame import Frame
from .options import CaptureOptions


class Source(Protocol):
    """Frames in order. Iterated once; `close` may be called at any time, more than once, and ends the iteration."""

    name: str  # for messages, without passwords
    total: int | None  # frames to come, where that is known
    fps: float  # nominal rate, at which a saved video of these frames plays
    live: bool  # a camera or a stream: only the newest frame counts, stale ones are dropped
    moving: bool  # whether neighbouring frames belong together
    dropped: int  # stale frames of a live source that a newer one replaced
    sound: Sound | None  # what belongs to these frames, for those who save them

    @property
    def state(self) -> str:
        """`PLAYING`, or what is wrong with a live source and what is done about it, for people."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """Those that are read; no output may replace them."""
        ...

    @property
    def skipped(self) -> int:
        """Photos or frames of a recording that could not be decoded, so far."""
        ...

    @property
    def truncated(self) -> str | None:
        """How a recording that ended too early falls short; known once it has been iterated."""
        ...

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Stop reading and free the device or file."""
        ...


@dataclass(frozen=True)
class Sound:
    """The sound track of a recording."""

    codec: str  # its FFmpeg name, such as "aac"
    file: Path | None  # where it can be read; None where a source can only be read once
    start: float  # seconds on the file's clock at which the first picture is shown
    framed: bool = False  # AAC as MPEG-TS holds it, each packet behind a header of its own (ADTS)
    tracks: int = 1  # how many the recording has; this is the first


@dataclass(frozen=True)
class SourceRequest:
    """What a user asked for; every module that opens sources has `open_source(request) -> Source`."""

    address: str  # as the user wrote it, with any password: only `name` of the source may be shown
    live: bool = False  # asked for as a camera: the newest frame counts, and there is no end
    options: CaptureOptions = field(default_factory=CaptureOptions)
    warn: Callable[[str], None] = note  # called with a line about each photo or frame that is skipped


Opener = Callable[[SourceRequest], Source]
