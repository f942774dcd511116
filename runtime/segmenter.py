"""Image in, `Prediction` out, and the classes can change between any two images."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ..bundle.bundle import Bundle
from ..bundle.errors import BundleError, UsageError
from ..bundle.letterbox import Letterbox
from ..bundle.manifest import Manifest, Task
from ..bundle.vocabulary import ClassNames, Vocabulary, parse_classes, stack_names
from .engines.session import Provider, RawOutputs, Session, open_session
from .frame import Frame
from .inference.panoptic import Stuff, frame_segments
from .inference.prediction import NOTHING, Prediction
from .inference.preprocess import to_frame, to_input
from .vocabulary.background import GROUPS, Background, names, room, with_background

if TYPE_CHECKING:
    from typing_extensions import Self

    from .inference.keyframes import Keyframes
    from .inference.smoothing import TemporalSmoother

THRESHOLD = 0.3  # default least confidence of a painted pixel

Progress = Callable[[int, int], None]


class Encoder(Protocol):
    """Turns names into unit vectors (N, D); `TextEncoder`, or a table in tests."""

    def encode(self, names: Sequence[str], progress: Progress | None = None) -> npt.NDArray[np.float32]: ...

    def preload(self) -> None: ...


@dataclass(frozen=True)
class Asked:
    """What is being looked for. Replaced as one value, so that no frame ever sees half a change."""

    vocabulary: Vocabulary  # the asked classes, then the background class if there is one
    shown: int  # how many of them are asked; a label from here on is background
    things: tuple[bool, ...]  # of each asked class: whether its instances are told apart
    version: int = 0  # counts the changes of classes of one segmenter

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the asked classes."""
        return self.vocabulary.labels[: self.shown]


@dataclass(frozen=True)
class Prepared:
    """A frame made ready for the network."""

    image: npt.NDArray[np.uint8]  # (H, W, 3) BGR, the frame itself
    tensor: npt.NDArray[np.uint8]  # (1, h, w, 3) BGR, the network's input
    letterbox: Letterbox  # how the frame lies in it
    timings: dict[str, float]  # step -> milliseconds


@dataclass(frozen=True)
class Inferred:
    """A frame that has been through the network, and the classes it was asked for: the two never part."""

    prepared: Prepared
    asked: Asked
    labels: npt.NDArray[np.integer]  # (1, h, w), index into the asked vocabulary's classes
    confidence: npt.NDArray[np.float32]  # (1, h, w), of the winning class
    raw: RawOutputs | None  # everything the graph gives, for panoptic segmentation
    timings: dict[str, float]  # step -> milliseconds


Rivals = list[tuple[Sequence[str], npt.NDArray[np.float32]]]  # names of each background class, their vectors (S, D)


class Smoother(Protocol):
    """Steadies labels from frame to frame. Holds state: one for each stream of frames, called in their order."""

    def apply(self, inferred: Inferred) -> Inferred:
        """`inferred` with steadier labels and confidence; must not change the arrays it is given."""
        ...


class Segmenter:
    """An open-vocabulary segmenter: a session, a text encoder, and the classes now asked for.

    >>> with Segmenter.load() as segmenter:
    ...     segmenter.set_classes("person,bike|bicycle")
    ...     prediction = segmenter.predict(image)
    """

    def __init__(
        self,
        manifest: Manifest,
        session: Session,
        encoder: Encoder,
        background: str = "auto",
        threshold: float = THRESHOLD,
        task: Task | Literal["auto"] = "auto",
        stuff: Sequence[str] = (),
        exact_words: bool = False,
    ) -> None:
        """`background` is "auto", "none" or names such as "wall,floor" (background.py says why it is needed).

        `threshold` 0..1: pixels whose confidence is below it get no label. `task` "auto" is what the bundle can do.
        `stuff` names classes whose regions count as one segment, besides those the bundle knows of.
        `exact_words` takes words as they are, where others are read through a trained name (familiar.py).
        """
        self._task: Task = manifest.graph.task if task == "auto" else task
        if self._task == "panoptic" and manifest.graph.task != "panoptic":
            raise UsageError(
                f"the bundle {manifest.name} gives classes but no segments; make one that does with: "
                "ovs-export --task panoptic, or run with --task semantic"
            )
        if stuff and self._task != "panoptic":
            raise UsageError(
                "classes were named as stuff, which matters to panoptic segmentation only; use such a bundle"
            )
        self._stuff = Stuff(manifest, stuff)
        self._manifest = manifest
        self._session = session
        self._encoder = encoder
        self._background = background
        # Measured on sentence vectors alone; CLIP's, which were trained with pictures, stay as published models know them.
        self._reads = not exact_words and manifest.text.encoder == "minilm"
        self.threshold = threshold
        self.smoother: Smoother | None = None
        self._trained: Background | None = None
        self._asked: Asked | None = None
        self._version = 0
        self._running = threading.BoundedSemaphore(session.at_once)

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        precision: str = "fp32",
        threads: int = 0,
        provider: Provider = "auto",
        background: str = "auto",
        threshold: float = THRESHOLD,
        task: Task | Literal["auto"] = "auto",
        stuff: Sequence[str] = (),
        plan: str | Path | None = None,
        force: bool = False,
        exact_words: bool = False,
        side_by_side: bool = False,
    ) -> Segmenter:
        """Open a bundle folder, or the embedded one, with the TensorRT plan in the folder `plan` if one is named.

        `force` also runs a precision that failed its comparison with FP32. `side_by_side` lets a CPU work on several
        frames at once, which is what recordings want: more of them a second, but each takes longer.
        Raises `BundleError`, `PlanError`, `UsageError`, `MissingExtraError`.
        """
        from ..models import default_bundle
        from .vocabulary.text_encoder import TextEncoder

        opened = Bundle.open(default_bundle() if bundle is None else bundle, force=force)
        session = open_session(opened, precision, threads, provider, None if plan is None else Path(plan), side_by_side)
        encoder = TextEncoder(opened, threads)
        return cls(opened.manifest, session, encoder, background, threshold, task, stuff, exact_words)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._manifest

    @property
    def threshold(self) -> float:
        """Least confidence of a labelled pixel, 0..1. May be set at any time: the next finished frame obeys."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise UsageError(f"the threshold is {value:g}, expected a confidence from 0 to 1")
        self._threshold = value

    @property
    def at_once(self) -> int:
        """How many frames may be inferred at the same time, each in a thread of its own."""
        return self._session.at_once

    @property
    def task(self) -> Task:
        """What is done: semantic, or panoptic segmentation."""
        return self._task

    @property
    def asked(self) -> Asked:
        """The classes now asked for; raises `UsageError` before the first `set_classes`."""
        if self._asked is None:
            raise UsageError('no classes are set; call set_classes("person,bike|bicycle") first')
        return self._asked

    def set_classes(self, classes: str | Iterable[str], progress: Progress | None = None) -> Asked:
        """Look for other classes from the next frame on. No export, no reload; known names cost no encoding.

        `classes` is as `parse_classes` reads it, `"person,bike|bicycle"` or `"@file"`, or a sequence of such entries.
        If it raises, the classes stay as they were. May be called from another thread than `predict`.
        """
        # The leading comma is an empty entry, which counts for nothing: an entry that starts with @ is no file.
        text = classes if isinstance(classes, str) else "," + ",".join(classes)
        limit = self._manifest.graph.max_classes - self._reserved()
        parsed = parse_classes(text, max(limit, 1))
        flat = names(entry.names for entry in parsed)
        given = self._given_background(flat)
        words = [*flat, *names(given)]
        vectors = self._encoder.encode(words, progress)
        read = vectors
        if self._reads and (trained := self._trained_names(progress)) is not None:
            read = trained.read(vectors)
        row = {name: index for index, name in enumerate(words)}

        def rows(entry: Sequence[str]) -> npt.NDArray[np.float32]:
            return read[[row[name] for name in entry]]

        stacked = stack_names([rows(entry.names) for entry in parsed], vectors.shape[1])
        rivals: Rivals = [(entry, rows(entry)) for entry in given]
        if self._background == "auto":
            rivals = self._trained_rivals(parsed, flat, vectors, progress)
        vocabulary = with_background(Vocabulary(parsed, stacked), rivals)
        things = tuple(entry.names not in self._stuff for entry in parsed)
        self._version += 1
        self._asked = Asked(vocabulary, len(parsed), things, self._version)
        return self._asked

    def preload(self) -> None:
        """Load what encodes unknown names now, instead of with the first of them. Raises `BundleError`."""
        self._encoder.preload()

    def predict(self, image: npt.NDArray[np.uint8]) -> Prediction:
        """Segment one image (H, W, 3) uint8 BGR, of any size and aspect."""
        return self.finish(self.infer(self.prepare(image)))

    def prepare(self, image: npt.NDArray[np.uint8]) -> Prepared:
        """First of the three steps of `predict`, which may run in three threads: scale the frame for the network."""
        start = time.perf_counter()
        tensor, letterbox = to_input(image, self._manifest.input_size)
        return Prepared(image, tensor, letterbox, {"preprocess": (time.perf_counter() - start) * 1e3})

    def infer(self, prepared: Prepared, asked: Asked | None = None) -> Inferred:
        """Second step: the network, with `asked` or the classes asked for at this moment.

        May be called from several threads: `at_once` of them run, the others wait.
        """
        with self._running:
            if asked is None:
                asked = self.asked  # read once: `set_classes` may replace it while this frame is under way
            start = time.perf_counter()
            raw = None
            if self._task == "panoptic":
                raw = self._session.run_raw(prepared.tensor, asked.vocabulary.vectors)
                labels, confidence = raw.labels, raw.confidence
            else:
                labels, confidence = self._session.run(prepared.tensor, asked.vocabulary.vectors)
            timings = {**prepared.timings, "model": (time.perf_counter() - start) * 1e3}
        self._check(labels, confidence, len(asked.vocabulary.classes))
        return Inferred(prepared, asked, labels, confidence, raw, timings)

    def finish(self, inferred: Inferred) -> Prediction:
        """Third step, in the order of the frames: smoothing, and the maps brought to the frame's size."""
        start = time.perf_counter()
        if self.smoother is not None:
            inferred = self.smoother.apply(inferred)
        asked, letterbox = inferred.asked, inferred.prepared.letterbox
        index = inferred.labels[0].astype(np.int32)
        index[index >= asked.shown] = NOTHING
        index, score = to_frame(index, inferred.confidence[0].astype(np.float32, copy=False), letterbox)
        index[score < self._threshold] = NOTHING
        raw = inferred.raw
        ids, segments = (None, ()) if raw is None else frame_segments(raw, letterbox, asked.labels, asked.things)
        timings = {**inferred.timings, "postprocess": (time.perf_counter() - start) * 1e3}
        return Prediction(index, score, asked.labels, timings, segments, ids, asked.version)

    def stream(
        self, source: str | Path | int | Iterable[Frame], smooth: float = 0.0, keyframes: int = 1
    ) -> Iterator[tuple[Frame, Prediction]]:
        """Segment frame after frame of a file, folder, URL or device as `ovs-run --source` takes it, or of any frames.

        A number is a camera's, as OpenCV counts them; of a camera, each next frame is the newest.
        `smooth` 0..1 steadies labels where the picture stands still (smoothing.py), `keyframes` N shows the network
        every Nth frame only (keyframes.py). Raises `SourceError`, `UsageError`.

        >>> for frame, prediction in segmenter.stream("clip.mp4", smooth=0.9):
        ...     print(frame.index, [region.label for region in prediction.regions()])
        """
        from .inference.keyframes import Keyframes
        from .inference.smoothing import TemporalSmoother

        smoother, steps = TemporalSmoother(smooth), Keyframes(self, keyframes)
        if isinstance(source, (str, Path, int)):
            from .capture.registry import open_source

            camera = isinstance(source, int)
            opened = open_source(None if camera else str(source), str(source) if camera else None)
            try:
                yield from self._stream(opened, smoother, steps)
            finally:
                opened.close()
        else:
            yield from self._stream(source, smoother, steps)

    def _stream(
        self, frames: Iterable[Frame], smoother: TemporalSmoother, steps: Keyframes
    ) -> Iterator[tuple[Frame, Prediction]]:
        for frame in frames:
            yield frame, self.finish(smoother.apply(steps.infer(steps.prepare(frame.image))))

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    def _given_background(self, asked: Sequence[str]) -> list[tuple[str, ...]]:
        """Names of each background class that the user gave."""
        if self._background in ("auto", "none"):
            return []
        given = [entry.names for entry in parse_classes(self._background, self._manifest.graph.max_classes)]
        folded = {name.casefold() for name in asked}
        if both := [name for name in names(given) if name.casefold() in folded]:
            raise UsageError(f"{both[0]!r} is asked for as a class and as background; keep it in one of the two")
        return given

    def _trained_rivals(
        self,
        parsed: tuple[ClassNames, ...],
        asked: list[str],
        vectors: npt.NDArray[np.float32],
        progress: Progress | None,
    ) -> Rivals:
        """Background classes of the names that the model was trained with."""
        trained = self._trained_names(progress)
        if trained is None:
            return []
        most = room(len(parsed), max(len(entry.names) for entry in parsed))
        return [(group, trained.vectors(group)) for group in trained.groups(trained.away_from(asked, vectors), most)]

    def _trained_names(self, progress: Progress | None) -> Background | None:
        """The names the model was trained with; None where the bundle tells of none."""
        classes = self._manifest.training_vocabulary
        if self._trained is None and classes:
            self._trained = Background(classes, self._encoder.encode(names(classes), progress), self._manifest.related)
        return self._trained

    def _reserved(self) -> int:
        """How many of the graph's classes the background may take."""
        if self._background == "none":
            return 0
        if self._background == "auto":
            return min(GROUPS, len(self._manifest.training_vocabulary))
        return len(parse_classes(self._background, self._manifest.graph.max_classes))

    def _check(self, labels: npt.NDArray[np.integer], confidence: npt.NDArray[np.float32], classes: int) -> None:
        sound = labels.ndim == 3 and labels.shape[0] == 1 and labels.size and labels.shape == confidence.shape
        if not sound or not np.issubdtype(labels.dtype, np.integer) or int(labels.max()) >= classes:
            raise BundleError(
                f"the segmenter gave labels {labels.dtype} {list(labels.shape)} and confidence "
                f"{list(confidence.shape)}, expected (1, h, w) each with labels below {classes}; export it again"
            )
