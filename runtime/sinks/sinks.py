"""Where results go: what every sink offers, JSON lines, and how an option becomes a sink."""

from __future__ import annotations

import json
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SinkError, UsageError
from ..capture.photos import IMAGE_SUFFIXES
from ..capture.sources import Source
from ..frame import Frame
from ..inference.prediction import Prediction
from ..status import Status
from .staging import Staged, cannot_write

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v"})
_OTHER_VIDEO = frozenset({".webm", ".wmv", ".flv", ".mpg", ".mpeg", ".gif"})  # not to be taken for a folder's name


class Sink(Protocol):
    """Takes frames in order. Files appear under their name in `finish`; `close` without it leaves nothing behind."""

    place: str | None  # where a user finds the result, for the summary

    @property
    def wants_picture(self) -> bool:
        """Whether `write` looks at the annotated picture; asked before each is drawn."""
        ...

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Take one frame and its annotated picture (H, W, 3) BGR; False asks to stop. Raises `SinkError`."""
        ...

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Called some fifty times a second while no frame comes; False asks to stop.

        `picture` is the last one with a banner that says what is wrong, where that changed since the last call.
        """
        ...

    def finish(self) -> None:
        """Complete the output. Raises `SinkError`."""
        ...

    def close(self) -> None:
        """Free everything; may be called more than once."""
        ...


@runtime_checkable
class Holding(Protocol):
    """What a sink has besides that may keep a frame for as long as somebody looks at it."""

    @property
    def holds(self) -> bool:
        """Whether the next frame has to wait, and the end of the run; `idle` is called meanwhile."""
        ...


def open_saver(target: str, source: Source) -> Sink:
    """The sink of `--save`: a video or a picture where the name says so, else a folder of pictures."""
    path = Path(target)
    if not target:
        raise UsageError("--save is empty; give a name: out.mp4 (video), out.png (one photo) or out (folder)")
    try:
        folder = target.endswith("/") or path.is_dir()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        raise cannot_write(path, error) from error
    suffix = "" if folder else path.suffix.lower()
    if suffix in _OTHER_VIDEO:
        raise UsageError(f"{suffix} videos are not written; expected one of: {' '.join(sorted(VIDEO_SUFFIXES))}")
    if suffix in VIDEO_SUFFIXES:
        from .video import VideoSink

        return VideoSink(path, source.fps, source.live)
    from .images import FolderSink, PictureSink

    if suffix in IMAGE_SUFFIXES:
        if source.total != 1:
            raise UsageError(f"{target} is one picture, {source.name} has more; save to a folder: --save {path.stem}")
        return PictureSink(path)
    return FolderSink(path, "jpg" if source.moving else "png")


class JsonSink:
    """One JSON object a line and frame.

    {"index": 0, "time": 0.0, "name": "photo", "width": 640, "height": 480, "classes": [
        {"class": "cat", "share": 0.25, "box": [x0, y0, x1, y1], "confidence": 0.9}, ...]}

    `classes` lists those found, in the order they were asked for; units are as in `Frame` and `Region`. Panoptic lines
    go on with the segments, kind being "thing" or "stuff":

    "segments": [{"id": 1, "class": "cat", "kind": "thing", "share": 0.2, "box": [x0, y0, x1, y1], "score": 0.9}, ...]
    """

    wants_picture = False

    def __init__(self, target: str) -> None:
        """Write to the file `target`, or to standard output for "-". A pipe or device is written as it is."""
        self._path = Path(target)
        self._staged: Staged | None = None
        self._stream: IO[str] | None = None
        self.place: str | None = target if target != "-" else None
        if target == "-":
            self._stream = sys.stdout
            return
        if not target:
            raise UsageError("--json is empty; give a name such as out.jsonl, or - for standard output")
        try:
            mode = self._path.stat().st_mode if self._path.exists() else stat.S_IFREG
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                self._stream = self._path.open("w", encoding="utf-8")
                return
            self._staged = Staged(self._path)
            self._stream = self._staged.work.open("w", encoding="utf-8")
        except (OSError, ValueError) as error:
            raise cannot_write(self._path, error) from error

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Append the frame's line."""
        line = json.dumps(describe(frame, prediction), ensure_ascii=False)
        assert self._stream is not None
        try:
            # Flushed by the line: a reader at the other end of a pipe sees it now, and a full disk shows now.
            self._stream.write(line.encode("utf-8", "replace").decode() + "\n")
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise cannot_write(self._path, error) from error
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Files hold frames only."""
        return True

    def finish(self) -> None:
        """Close the file and let it appear under its name."""
        self._close_stream()
        if self._staged is not None:
            self._staged.commit()

    def close(self) -> None:
        """Free the file; unfinished, it is removed."""
        with suppress(SinkError):  # what it could not write is thrown away here
            self._close_stream()
        if self._staged is not None:
            self._staged.discard()

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is None or stream is sys.stdout:
            return
        try:
            stream.close()
        except OSError as error:
            raise cannot_write(self._path, error) from error


def describe(frame: Frame, prediction: Prediction) -> dict[str, Any]:
    """What `JsonSink` writes of a frame, as plain values."""
    height, width = prediction.labels.shape
    line: dict[str, Any] = {
        "index": frame.index,
        "time": round(frame.time, 6),
        "name": frame.name,
        "width": width,
        "height": height,
        "classes": [
            {
                "class": region.label,
                "share": round(region.share, 6),
                "box": list(region.box),
                "confidence": round(region.confidence, 4),
            }
            for region in prediction.regions()
        ],
    }
    if prediction.segment_map is not None:
        line["segments"] = [
            {
                "id": segment.id,
                "class": segment.label,
                "kind": "thing" if segment.thing else "stuff",
                "share": round(segment.area / (height * width), 6),
                "box": list(segment.box),
                "score": round(segment.score, 4),
            }
            for segment in prediction.segments
        ]
    return line
