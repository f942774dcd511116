"""Results as JSON lines."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.errors import UsageError
from ...bundle.files import told_while_waiting
from ..frame import Frame
from ..inference.interop import encode_rle
from ..inference.parts import Part, connected_parts, frame_mask, polygons
from ..inference.prediction import Prediction
from ..status import Status
from .mask_form import MaskForm
from .sink import SinkRequest
from .source_events import LossWatch
from .staging import InPlace, cannot_write


class JsonSink:
    """One JSON object a line and frame.

    {"index": 0, "time": 0.0, "name": "photo", "width": 640, "height": 480, "classes": [
        {"class": "cat", "share": 0.25, "box": [x0, y0, x1, y1], "confidence": 0.9, "parts": [
            {"share": 0.2, "box": [...], "centroid": [x, y], "confidence": 0.9}, ...]}, ...]}

    `classes` lists those found, in the order they were asked for; units are as in `Frame` and `Region`. `parts` are its
    connected regions, largest first, without specks; on request with their masks, as `MaskForm` says. Panoptic lines
    go on with the segments, kind being "thing" or "stuff":

    "segments": [{"id": 1, "class": "cat", "kind": "thing", "share": 0.2, "box": [x0, y0, x1, y1], "score": 0.9}, ...]

    Where regions are tracked, lines have them with their ids; `foot` is the middle of its lowest pixels, `age` in seconds,
    `speed` in frame heights a second:

    "tracks": [{"id": 7, "class": "cat", "share": 0.2, "box": [x0, y0, x1, y1], "centroid": [x, y], "foot": [x, y],
                "confidence": 0.9, "age": 3.2, "speed": 0.05}, ...]

    When a live source is lost and when it is back, there is a line about that instead of a frame; `index` and `time`
    are those of the last frame and of now:

    {"index": 41, "time": 9.3, "event": "lost", "reason": "camera 0 stopped sending frames"}
    {"index": 41, "time": 14.8, "event": "recovered", "seconds": 5.5}

    The line of one of several cameras begins with its name: {"camera": "door", "index": 0, ...}.

    Each line is UTF-8, and reaches the file as soon as it is written.
    """

    wants_picture = False

    def __init__(self, target: str, masks: MaskForm = MaskForm.NONE, camera: str | None = None) -> None:
        """Write to the file `target`, or to standard output for "-". A pipe or device is written as it is.

        A file that is there is emptied when the first line comes. `camera` is the name of one of several, which every
        line begins with. Raises `SinkError`, `UsageError`.
        """
        if not target:
            raise UsageError("--json is empty; give a name such as out.jsonl, or - for standard output")
        self.place: str | None = target if target != "-" else None
        self._masks = masks
        self._head = {} if camera is None else {"camera": camera}
        self._watch = LossWatch()
        self._lines: _Lines = _StandardOutput() if target == "-" else _LineFile(Path(target))

    def write(
        self, frame: Frame, prediction: Prediction, picture: npt.NDArray[np.uint8] | None, status: Status
    ) -> bool:
        """Append the frame's line."""
        if (event := self._watch.frame(frame)) is not None:
            self._append(event)
        self._append(describe(frame, prediction, self._masks))
        return True

    def idle(self, picture: npt.NDArray[np.uint8] | None, status: Status) -> bool:
        """Say that the source is lost, once."""
        if (event := self._watch.idle(status)) is not None:
            self._append(event)
        return True

    def finish(self) -> None:
        """Close the file."""
        self._lines.close()

    def close(self) -> None:
        """Free the file; the lines in it stay."""
        self._lines.close()

    def _append(self, line: dict[str, Any]) -> None:
        self._lines.append((json.dumps({**self._head, **line}, ensure_ascii=False) + "\n").encode("utf-8", "replace"))


class _Lines(Protocol):
    def append(self, line: bytes) -> None: ...

    def close(self) -> None: ...


class _StandardOutput:
    """The bytes of standard output: its text layer would encode in the terminal's character set."""

    def __init__(self) -> None:
        if sys.stdout is None:  # closed by the shell: >&-
            raise cannot_write(Path("standard output"), OSError(errno.EBADF, "standard output is closed"))
        sys.stdout.flush()
        self._stream = sys.stdout.buffer

    def append(self, line: bytes) -> None:
        try:
            self._stream.write(line)
            self._stream.flush()
        except BrokenPipeError:
            raise
        except (OSError, ValueError) as error:
            raise cannot_write(Path("standard output"), error) from error

    def close(self) -> None:
        """It is not ours to close."""


class _LineFile:
    """A file, pipe or device that lines are appended to, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: InPlace | None = None
        self._handle: int | None = None
        self._size: int | None = None  # bytes of whole lines; None for a pipe or device, which cannot be wound back
        self._begun = False
        try:
            mode = path.stat().st_mode if path.exists() else stat.S_IFREG
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                self._file = InPlace(path)
                self._size = 0
            with told_while_waiting(path, "reads"):
                self._handle = os.open(self._file.work if self._file else path, os.O_WRONLY)
        except (OSError, ValueError) as error:
            raise cannot_write(path, error) from error

    def append(self, line: bytes) -> None:
        assert self._handle is not None
        try:
            if not self._begun and self._size is not None:
                os.ftruncate(self._handle, 0)
            self._begun = True
            if self._size is not None and not os.fstat(self._handle).st_nlink:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))  # deleted: nobody would find it
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._size is not None:
                os.ftruncate(self._handle, self._size)  # half a line would break its reader
            raise cannot_write(self._path, error) from error
        if self._size is not None:
            self._size += len(line)

    def close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
        file, self._file = self._file, None
        if file is not None:
            if self._size:
                file.keep()
            else:
                file.discard()


def _part(part: Part, size: tuple[int, int], masks: MaskForm) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "share": round(part.share, 6),
        "box": list(part.box),
        "centroid": [round(value, 1) for value in part.centroid],
        "confidence": round(part.confidence, 4),
    }
    if masks is MaskForm.RLE:
        entry["rle"] = encode_rle(frame_mask(part, size))
    elif masks is MaskForm.POLYGONS:
        entry["polygons"] = polygons(part)
    return entry


def describe(frame: Frame, prediction: Prediction, masks: MaskForm = MaskForm.NONE) -> dict[str, Any]:
    """What `JsonSink` writes of a frame, as plain values."""
    height, width = prediction.labels.shape
    complete = masks is not MaskForm.NONE
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
                "parts": [
                    _part(part, (height, width), masks)
                    for part in connected_parts(prediction, region.label, complete=complete)
                ],
            }
            for region in prediction.regions()
        ],
    }
    if prediction.readings:
        line["unknown"] = [
            {
                "class": reading.name,
                "readable": reading.readable,
                "nearest": reading.nearest,
                "similarity": round(reading.similarity, 4),
                "suggestion": reading.suggestion,
            }
            for reading in prediction.readings
        ]
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
    if prediction.tracks:
        line["tracks"] = [
            {
                "id": track.id,
                "class": track.label,
                "share": round(track.share, 6),
                "box": list(track.box),
                "centroid": [round(track.centre[0] * width, 1), round(track.centre[1] * height, 1)],
                "foot": [round(track.foot[0] * width, 1), round(track.foot[1] * height, 1)],
                "confidence": round(track.confidence, 4),
                "age": round(track.age, 3),
                "speed": round(track.speed, 4),
            }
            for track in prediction.tracks
        ]
    return line


def open_sink(request: SinkRequest) -> JsonSink:
    """As `--json`."""
    return JsonSink(request.target)
