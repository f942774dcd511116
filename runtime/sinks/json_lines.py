"""Results as JSON lines."""

from __future__ import annotations

import json
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SinkError, UsageError
from ..frame import Frame
from ..inference.prediction import Prediction
from ..status import Status
from .sink import SinkRequest
from .staging import Staged, cannot_write


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


def open_sink(request: SinkRequest) -> JsonSink:
    """As `--json`."""
    return JsonSink(request.target)
