"""Changes of classes while frames are processed: encoded in a separate thread, applied between two frames.

Until the new names are encoded, frames are labelled with the old ones. `Segmenter.set_classes` replaces the vocabulary
as one value, which is read once per frame, so no frame gets half of each. If requests come faster than they can be
encoded, only the newest is applied. A request that fails leaves the classes unchanged, and its future raises the error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from ...bundle.class_files import read_text
from ...bundle.errors import UsageError
from ...bundle.files import refuse_pipe
from ...bundle.vocabulary import ClassNames
from ..inference.frame_processor import ActiveClasses
from ..segmenter import Segmenter
from ..threads.newest_task import NewestTaskWorker, Superseded
from .reading import Reading

MOST_PRESETS = 9  # one for each key
_POLL = 0.25  # seconds between two looks at a watched file; polling works on every file system

Classes = str | Sequence[str]


@dataclass(frozen=True)
class VocabularyState:
    """The classes in use, and whether a change is pending."""

    classes: tuple[ClassNames, ...]  # that frames are labelled with now
    version: int  # of these classes; a prediction carries the version it was made with
    pending: bool  # whether other classes are being encoded
    error: str | None  # why the last request failed; None if it did not
    readings: tuple[Reading, ...] = ()  # of those classes none of whose names is a trained one
    sensitivity: str = "normal"  # how readily the classes are found


class LiveVocabulary:
    """Changes the classes of a segmenter in use. Every method may be called from any thread."""

    def __init__(
        self,
        segmenter: Segmenter,
        presets: Sequence[str] = (),
        on_change: Callable[[VocabularyState], None] | None = None,
    ) -> None:
        """`segmenter` has its first classes. `on_change` is called with every new state, in the thread that made it."""
        if len(presets) > MOST_PRESETS:
            raise UsageError(f"{len(presets)} presets were given, expected at most {MOST_PRESETS}: one for each key")
        self.presets = tuple(presets)
        self.on_change = on_change
        self._segmenter = segmenter
        self._worker: NewestTaskWorker[Classes, ActiveClasses] = NewestTaskWorker(
            "vocabulary", self._encode, segmenter.preload
        )
        self._lock = threading.Lock()
        self._requested = 0  # requests so far, and how many have had their answer
        self._answered = 0
        self._error: str | None = None
        self._watched: tuple[threading.Thread, threading.Event] | None = None

    @property
    def state(self) -> VocabularyState:
        """As of now."""
        active = self._segmenter.active
        classes = active.classes
        pending = self._requested > self._answered
        return VocabularyState(
            classes, active.version, pending, self._error, active.readings, self._segmenter.sensitivity
        )

    def start(self) -> None:
        """Load the text encoder now, in its thread, so that the first change is as quick as later ones."""
        self._worker.start()

    def request(self, classes: Classes) -> Future[ActiveClasses]:
        """Look for `classes`, given as to `Segmenter.set_classes`, as soon as they are encoded.

        The future's result is the classes in use from the next frame on. It raises `UsageError` for an invalid list,
        `Superseded` if another request came before this one was started.
        """
        with self._lock:
            self._requested += 1
        future = self._worker.submit(classes)
        future.add_done_callback(self._answer)
        return future

    def preset(self, number: int) -> Future[ActiveClasses] | None:
        """Request preset `number`, counted from 1; None if there is no such preset."""
        return self.request(self.presets[number - 1]) if 1 <= number <= len(self.presets) else None

    def set_sensitivity(self, sensitivity: str) -> None:
        """Find the classes more or less readily from the next frame on; see `Segmenter.sensitivity`.

        Waits while other classes are being encoded. Raises `UsageError`.
        """
        self._segmenter.sensitivity = sensitivity
        if self.on_change is not None:
            self.on_change(self.state)

    def watch(self, path: Path, refused: Callable[[str], None] | None = None) -> None:
        """Request the classes in `path`, one a line, now and whenever the file changes, until `close`.

        A file that is missing for a moment, as while many editors save, changes nothing. `refused` is called with the
        reason why a later list was refused, in another thread.
        """
        seen = _signature(path)
        self.request(f"@{path}").result()  # a first list that is no good is an error now
        stop = threading.Event()
        thread = threading.Thread(
            target=self._watch, args=(path, seen, stop, refused), name="watched classes", daemon=True
        )
        self._watched = thread, stop
        thread.start()

    def close(self) -> None:
        """End the threads."""
        if self._watched is not None:
            self._watched[1].set()
            self._watched[0].join()
        self._worker.close()

    def _encode(self, classes: Classes) -> ActiveClasses:
        return self._segmenter.set_classes(classes)

    def _answer(self, future: Future[ActiveClasses]) -> None:
        error = None if future.cancelled() else future.exception()
        with self._lock:
            self._answered += 1
            if not isinstance(error, Superseded):
                self._error = None if error is None else str(error)
        if self.on_change is not None:
            self.on_change(self.state)

    def _watch(
        self,
        path: Path,
        seen: tuple[int, ...] | None,
        stop: threading.Event,
        refused: Callable[[str], None] | None,
    ) -> None:
        def tell(future: Future[ActiveClasses]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None and not isinstance(error, Superseded) and refused is not None:
                refused(str(error))

        last = seen
        while not stop.wait(_POLL):
            before, last = last, _signature(path)
            # Read once it has stayed the same for one interval: an editor may still be writing it.
            if last is not None and last == before and last != seen:
                seen = last
                self.request(f"@{path}").add_done_callback(tell)


def read_presets(entries: Sequence[str]) -> tuple[str, ...]:
    """Presets as `--preset` gives them: each is a list of classes, "@FILE" is a file with one list a line.

    Raises `UsageError` for a file that cannot be read, or more than nine lists.
    """
    presets: list[str] = []
    for entry in entries:
        if not entry.startswith("@"):
            presets.append(entry)
            continue
        refuse_pipe(entry[1:], "--preset")
        lines = read_text(Path(entry[1:])).splitlines()
        presets += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if len(presets) > MOST_PRESETS:
        raise UsageError(f"{len(presets)} presets were given, expected at most {MOST_PRESETS}: one for each key")
    return tuple(presets)


def _signature(path: Path) -> tuple[int, ...] | None:
    """What changes with a file's contents, or None while there is no file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
