"""A video as a source: every frame, in order, at its own time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ....bundle.addresses import redact_address, scheme_of
from ....bundle.errors import SourceError, note
from ...frame import Frame
from ...status import PLAYING
from ..interruptible import interruptible
from ..names import safe_name
from ..options import refuse_live_options, refuse_photo_options
from ..source import SourceRequest
from .completeness import cut_short, lost_track_at
from .decoder import STDIN, Image, VideoDecoder
from .decoders import open_decoder
from .failures import refuse_lists, why_unreadable

_LEAVE = 1.0  # seconds that `close` waits for a read under way


class VideoSource:
    """Every frame of a video, in order. Frames that do not decode are skipped and counted."""

    live = False
    moving = True
    state = PLAYING
    dropped = 0

    def __init__(self, place: Path | str, warn: Callable[[str], None] = note) -> None:
        """`place`: a file or a pipe's path, an http address, or "-" for standard input.

        `warn` is called with the number of frames skipped, and with what is missing. Raises `SourceError`.
        """
        place = os.fspath(place)
        self.name = "standard input" if place == STDIN else redact_address(place)
        self.truncated: str | None = None
        self._warn = warn
        self._web = scheme_of(place) is not None
        named = "stdin" if place == STDIN else self.name.partition("?")[0] if self._web else place
        self._stem = safe_name(os.path.splitext(os.path.basename(named))[0])
        self.files: tuple[Path, ...] = () if self._web or place == STDIN else (Path(place),)
        if self.files:
            _check_readable(self.files[0])
            if self.files[0].is_file():
                refuse_lists(self.files[0])
        self._busy = threading.Lock()  # a decoder must not be freed under a read
        # A pipe that nobody writes to and a server that sends nothing block: Ctrl-C must work all the same.
        decoder = interruptible(lambda: _started(place), lambda late: late[0].close())
        self._decoder: VideoDecoder | None = decoder[0]
        self._first = decoder[1]
        self.fps, self.total, self.sound = decoder[0].fps, decoder[0].total, decoder[0].sound
        self._skipped = 0

    @property
    def skipped(self) -> int:
        """Frames that did not decode, so far."""
        decoder = self._decoder
        return self._skipped if decoder is None else decoder.skipped

    def __iter__(self) -> Iterator[Frame]:
        image, start = self._first
        index, time = 0, 0.0
        while True:
            yield Frame(image, index, time, f"{self._stem}_{index:06d}")
            index += 1
            with self._busy:
                if self._decoder is None:  # closed
                    return
                found = self._decoder.read()
            if found is None:
                break
            image, at = found
            if at - start <= time:  # the clock of a stream was set back
                start = at - time - 1 / self.fps
            time = at - start
        self._report(index)

    def _report(self, had: int) -> None:
        """Say what the video lacks."""
        decoder = self._decoder
        if decoder is None:
            return
        fault = self._fault(decoder, had)
        if fault is not None:
            skipped = f"; {decoder.skipped} did not decode" if decoder.skipped else ""
            self.truncated = f"{self.name} {fault}{skipped}"
            self._warn(self.truncated)
        elif decoder.skipped:
            plural = "s" if decoder.skipped > 1 else ""
            self._warn(f"skipped: {decoder.skipped} frame{plural} of {self.name} did not decode")

    def _fault(self, decoder: VideoDecoder, had: int) -> str | None:
        """What is wrong with the video beside frames that do not decode."""
        promised, seen = decoder.promised, had + decoder.skipped
        of = f"{had} of {promised} frames" if promised else f"{had} frame{'s' if had > 1 else ''}"
        file = self.files[0] if self.files and self.files[0].is_file() else None
        absent = cut_short(file) if file is not None else None
        if absent is not None and (promised is None or had < promised):
            return f"is cut short: {of} read, {absent}"
        if file is not None and (place := lost_track_at(file)) is not None:
            return f"is damaged: {of} read, what follows byte {place:,} is no part of a video"
        if decoder.broken is not None and (promised is None or seen < promised):
            return f"breaks off: {of} read ({decoder.broken})"
        if self._web and promised is not None and seen < promised:
            return f"breaks off: {of} read"
        missing = decoder.missing
        if missing or decoder.damaged:
            lost = f", {missing} missing" if missing else ""
            bad = f", {decoder.damaged} with errors" if decoder.damaged else ""
            return f"is damaged: {of} read{bad}{lost}"
        return None

    def close(self) -> None:
        """Free the decoder. One that waits for a pipe is left to the end of the process."""
        if self._busy.acquire(timeout=_LEAVE):
            try:
                if self._decoder is not None:
                    self._skipped = self._decoder.skipped
                    self._decoder.close()
                self._decoder = None
            finally:
                self._busy.release()


def _started(place: str) -> tuple[VideoDecoder, tuple[Image, float]]:
    decoder = open_decoder(place)
    first = decoder.read()
    if first is None:
        decoder.close()
        shown = "standard input" if place == STDIN else redact_address(place)
        raise SourceError(why_unreadable(shown, place if os.path.isfile(place) else None, place))
    return decoder, first


def _check_readable(path: Path) -> None:
    """Raise `SourceError` for a file that may not be read; what is in a pipe is left to its reader."""
    try:
        if path.is_file():
            path.open("rb").close()
        else:
            path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"cannot read {path} ({reason}); check the file and its permissions") from error


def open_source(request: SourceRequest) -> VideoSource:
    """The video at a path, at a web address, or on standard input."""
    refuse_live_options(request.options)
    refuse_photo_options(request.options)
    return VideoSource(request.address, request.warn)
