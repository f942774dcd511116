"""What the frames of one camera are given to: its files, and the sinks that others add, such as the page's.

Files outlive the source, which may be opened again, and the camera itself where SIGHUP replaces it by another one of the
same name that has the same outputs: a recording goes on. What this run has written is never replaced by it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...bundle.errors import SourceError, UsageError, reason_of
from ..capture.source import Sound, Source
from ..frame import Frame
from ..sinks.mask_form import MaskForm
from ..sinks.output_files import free_path, refuse_foreign
from ..sinks.registry import open_json_sink, open_mask_sink, open_sink
from ..sinks.sink import Sink, SinkRequest
from ..status import PLAYING
from .config import CameraConfig
from .counts import CameraCounts

Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Output:
    """An output as the configuration has it; two cameras with the same one write it in the same way."""

    key: str  # "save", "json" or "save_masks"
    target: str  # as the user wrote it, with the directives of a date
    masks: MaskForm = MaskForm.NONE  # in JSON lines


class WrittenFiles:
    """Files and folders that the cameras of a run have written so far."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    def free(self, target: str) -> str:
        """`target`, or the same with a number where this run has written it."""
        path = Path(target)
        if os.path.realpath(path) not in self._paths or not (path.is_file() or path.is_dir()):
            return target
        return str(free_path(path)) + ("/" if target.endswith("/") else "")

    def add(self, target: str) -> None:
        """Remember that `target` is written."""
        self._paths.add(os.path.realpath(target))


class CameraOutputs:
    """The sinks of a camera. One that fails is told, counted and given up; what it has written stays."""

    def __init__(
        self, camera: str, config: CameraConfig, written: WrittenFiles, counts: CameraCounts, tell: Tell
    ) -> None:
        """`written` is shared by all cameras of a run; `tell` is told of what fails, one line each."""
        self.reader_left = False  # whoever read an output on standard output reads no more
        self._camera = camera
        self._config = config
        self._written = written
        self.counts = counts
        self._tell = tell
        self._sinks: list[Sink] = []
        self._files: dict[_Output, Sink] = {}  # those of `_sinks` that the configuration asks for
        self._opened = self._ended = False
        self._lock = threading.Lock()  # of which sinks there are

    def add(self, sink: Sink) -> None:
        """Give frames to a further sink."""
        self._sinks.append(sink)

    def check(self, before: CameraOutputs | None, allow: str) -> None:
        """Raise `UsageError` or `SinkError` for an output that cannot be written; nothing is left of the attempt.

        Outputs that are the same in `before` are taken over from it. `allow` is how files of others may be replaced.
        """
        for output in _outputs_of(self._config):
            if before is not None and output in before._files:
                continue
            target = self._written.free(dated(output.target))
            place = Path(target)
            if target == "-" or _is_pipe(place):
                continue
            refuse_foreign(place, "the output", overwrite=self._config.overwrite, allow=allow)
            self._open(output, SinkRequest(target, _SourceToCome(), self._config.overwrite)).close()

    def open(self, source: Source) -> None:
        """Open the files for the frames of `source`, the first time that it is called."""
        with self._lock:
            if self._opened:
                return
            self._opened = True
            missing = [output for output in _outputs_of(self._config) if output not in self._files]
        for output in missing:
            try:
                sink = self._open_free(output, source)
            except Exception as error:  # noqa: BLE001 - the camera and its other outputs go on
                self._give_up(error)
                continue
            with self._lock:
                if not self._ended:
                    self._files[output] = sink
                    self._sinks.append(sink)
                    continue
            _finish(sink, complete=True)

    @property
    def wants_picture(self) -> bool:
        """Whether a sink looks at the annotated picture of the next frame."""
        return any(sink.wants_picture for sink in self._sinks)

    def each(self, call: Callable[[Sink], object]) -> None:
        """Call every sink; one that fails is closed and gets nothing more."""
        for sink in list(self._sinks):
            self._call(sink, call)

    def end(self, successor: CameraOutputs | None, *, complete: bool) -> None:
        """Give files that `successor` writes in the same way to it; finish and close the other sinks.

        Without `complete`, they are only closed.
        """
        with self._lock:
            files, sinks = self._files, self._sinks
            self._sinks, self._files = [], {}
            self._opened = self._ended = True
        kept = [] if successor is None else [sink for output, sink in files.items() if successor._take(output, sink)]
        for sink in sinks:
            if not any(sink is one for one in kept):
                _finish(sink, complete=complete)

    def _take(self, output: _Output, sink: Sink) -> bool:
        """Go on with a file of the camera before; False if it is not wanted, or too late."""
        with self._lock:
            wanted = not self._opened and output in _outputs_of(self._config)
            if wanted:
                self._files[output] = sink
                self._sinks.append(sink)
        return wanted

    def _open_free(self, output: _Output, source: Source) -> Sink:
        asked = dated(output.target)
        target = self._written.free(asked)
        sink = self._open(output, SinkRequest(target, source, self._config.overwrite))
        if target != asked:
            self._tell(f"writes {target}: {asked} has been written since the program was started")
        if target != "-" and not _is_pipe(Path(target)):
            self._written.add(target)
        return sink

    def _open(self, output: _Output, request: SinkRequest) -> Sink:
        if output.key == "json":
            return open_json_sink(request, masks=output.masks, camera=self._camera)
        return open_sink(request) if output.key == "save" else open_mask_sink(request)

    def _call(self, sink: Sink, call: Callable[[Sink], object]) -> None:
        try:
            call(sink)
        except Exception as error:  # noqa: BLE001 - an output that fails must not end the others
            with self._lock:
                self._sinks = [other for other in self._sinks if other is not sink]
                self._files = {output: file for output, file in self._files.items() if file is not sink}
            self._give_up(error)
            with suppress(Exception):
                sink.close()

    def _give_up(self, error: Exception) -> None:
        self.reader_left = self.reader_left or isinstance(error, BrokenPipeError)
        if not self.reader_left:
            self._tell(f"an output failed and is given up: {reason_of(error)}")
        self.counts.output_failures += 1


def dated(target: str) -> str:
    """`target` with the present time for `%Y`, `%m`, `%d`, `%H`, `%M` and `%S`.

    So that a service that is started again leaves the outputs of before. Raises `UsageError`.
    """
    try:
        return time.strftime(target) if "%" in target else target
    except ValueError as error:
        raise UsageError(f"the output {target!r} has a % that is no part of a date ({error})") from error


def _outputs_of(config: CameraConfig) -> list[_Output]:
    named = (("save", config.save), ("json", config.json), ("save_masks", config.save_masks))
    return [
        _Output(key, target, config.masks if key == "json" else MaskForm.NONE)
        for key, target in named
        if target is not None
    ]


def _finish(sink: Sink, *, complete: bool) -> None:
    with suppress(Exception):
        if complete:
            sink.finish()
        sink.close()


def _is_pipe(path: Path) -> bool:
    """Whether a pipe or a device stands there: opening it has an effect on whoever reads."""
    with suppress(OSError, ValueError):
        return path.exists() and not path.is_file() and not path.is_dir()
    return False


@dataclass
class _SourceToCome:
    """Stands for a live source that is not open yet, where an output is only tried."""

    name: str = "a camera"
    total: int | None = None
    fps: float = 30.0
    live: bool = True
    moving: bool = True
    dropped: int = 0
    sound: Sound | None = None
    state: str = PLAYING
    files: tuple[Path, ...] = ()
    skipped: int = 0
    truncated: str | None = None

    def __iter__(self) -> Iterator[Frame]:
        raise SourceError("the source is not open")

    def close(self) -> None:
        """Nothing is open."""
