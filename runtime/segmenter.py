"""Image in, `Prediction` out, and the classes can change between any two images."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..bundle.bundle import Bundle
from ..bundle.errors import BundleError, UsageError, note_once
from ..bundle.manifest import Manifest, Task
from ..bundle.vocabulary import ClassNames
from .engines.engine import EngineOptions
from .engines.registry import open_resolved, resolve
from .engines.session import Session
from .examples.class_archive import expanded
from .examples.reader import RegionReader
from .examples.shown_classes import ShownClasses
from .examples.takes_examples import TakesExamples
from .frame import Frame
from .inference.frame_processor import ActiveClasses, Inferred, Prepared, Smoother
from .inference.input_image import as_bgr
from .inference.keyframes import Keyframes
from .inference.panoptic import Stuff, frame_segments
from .inference.prediction import NOTHING, Prediction
from .inference.preprocess import device_resizes, to_frame, to_input
from .inference.refinement import follow_edges, without_small_regions
from .inference.smoothing import TemporalSmoother
from .vocabulary.class_vectors import ClassVectors, Encoder, Progress
from .vocabulary.reading import Reading
from .vocabulary.segmenter_options import THRESHOLD, LoadOptions, SegmenterOptions, parse_sensitivity, parse_task

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    ImageLike = npt.NDArray[Any] | str | Path | Any  # Any: a PIL.Image

__all__ = ("Segmenter", "SegmenterOptions")


def _of_each(index: npt.NDArray[np.int32], thresholds: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | np.float32:
    """The threshold of each pixel (H, W), or the one of all."""
    if (thresholds == thresholds[0]).all():
        return np.float32(thresholds[0])
    found: npt.NDArray[np.float32] = thresholds[index]
    return found


def _without_background(labels: npt.NDArray[np.integer], shown: int) -> npt.NDArray[np.int32]:
    index = labels.astype(np.int32)
    index[index >= shown] = NOTHING
    return index


class Segmenter(TakesExamples):
    """An open-vocabulary segmenter: a session, a text encoder, and the classes in use.

    >>> with Segmenter.load() as segmenter:
    ...     segmenter.set_classes("person,bike|bicycle")
    ...     prediction = segmenter.predict(image)
    """

    def __init__(
        self,
        manifest: Manifest,
        session: Session,
        encoder: Encoder,
        options: SegmenterOptions | None = None,
        reader: RegionReader | None = None,
    ) -> None:
        """Without a `reader` of the bundle no examples can be shown.

        Raises `UsageError` for a task that the bundle cannot do.
        """
        options = SegmenterOptions() if options is None else options
        self._task: Task = parse_task(options.task, manifest)
        if self._task == "panoptic" and manifest.graph.task != "panoptic":
            raise UsageError(
                f"the bundle {manifest.name} gives classes but no segments; make one that does with: "
                "ovs-export --task panoptic, or run with --task semantic"
            )
        if options.stuff and self._task != "panoptic":
            raise UsageError(
                "classes were named as stuff, which matters to panoptic segmentation only; use such a bundle"
            )
        self._stuff = Stuff(manifest, options.stuff)
        self._manifest = manifest
        self._session = session
        self._device_frames = device_resizes(session)
        self._encoder = encoder
        sensitivity = parse_sensitivity(options.sensitivity)
        self._shown = ShownClasses()
        self._reader = reader
        self._class_vectors = ClassVectors(
            manifest, encoder, options.background, sensitivity, self._shown, exact_words=options.exact_words
        )
        self.threshold = self.default_threshold if options.threshold is None else options.threshold
        self.smoother: Smoother | None = None
        self.refinement = options.refinement  # may be set at any time, like `threshold`
        self.precision = "fp32"  # that the session runs, for information
        self._active: ActiveClasses | None = None
        self._version = 0
        self._changing = threading.Lock()  # held while other classes, or the same otherwise, are made ready
        self._running = threading.BoundedSemaphore(session.at_once)
        self._closed = False

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        precision: str = "fp32",
        threads: int = 0,
        provider: str = "auto",
        **options: Unpack[LoadOptions],
    ) -> Segmenter:
        """Open a bundle folder, or the embedded one.

        `precision` is one of the bundle's, or "auto": the fastest that passed its comparison with FP32;
        `threads` those of the CPU (0: one per core), `provider` an engine's name or "auto". `plan` is the folder of a
        TensorRT plan to use. `force` runs a precision even if it failed its comparison with FP32. `side_by_side` lets a
        CPU work on several frames at once: more frames per second of a recording, at a longer latency of each. The
        other options are those of `SegmenterOptions`.
        Raises `BundleError`, `PlanError`, `UsageError`, `MissingExtraError`.
        """
        from ..models import default_bundle
        from .vocabulary.text_encoder import TextEncoder

        rest: dict[str, Any] = dict(options)
        plan, force = rest.pop("plan", None), rest.pop("force", False)
        several = rest.pop("side_by_side", False)
        engine = EngineOptions(precision, threads, provider, None if plan is None else Path(plan), several)
        chosen = SegmenterOptions(**rest)
        opened = Bundle.open(default_bundle() if bundle is None else bundle, force=force)
        found, resolved = resolve(opened, engine)
        if opened.manifest.batch > 1:
            note_once(
                f"{opened.path.name} takes {opened.manifest.batch} images at once; for one camera, photo or video export it "
                "without --batch"
            )
        session, encoder = open_resolved(opened, found, resolved), TextEncoder(opened, threads)
        segmenter = cls(opened.manifest, session, encoder, chosen, RegionReader(opened, threads))
        segmenter.precision = resolved.precision
        return segmenter

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self._manifest

    @property
    def threshold(self) -> float:
        """Confidence threshold, 0..1, of classes without their own; may be set at any time."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise UsageError(f"the threshold is {value:g}, expected a confidence from 0 to 1")
        self._threshold = value

    @property
    def effective_threshold(self) -> float:
        """`threshold` as it is applied: with a low `sensitivity` somewhat higher."""
        return self.active.raised(self._threshold)

    @property
    def default_threshold(self) -> float:
        """The bundle's confidence threshold, or 0.3 where it states none."""
        return THRESHOLD if self._manifest.threshold is None else self._manifest.threshold

    @property
    def at_once(self) -> int:
        """How many frames may be inferred at the same time, each in a thread of its own."""
        return self._session.at_once

    @property
    def task(self) -> Task:
        """What is done: semantic, or panoptic segmentation."""
        return self._task

    @property
    def active(self) -> ActiveClasses:
        """The classes in use; raises `UsageError` before the first `set_classes`."""
        if self._active is None:
            raise UsageError('no classes are set; call set_classes("person,bike|bicycle") first')
        return self._active

    def set_classes(self, classes: str | Iterable[str], progress: Progress | None = None) -> ActiveClasses:
        """Look for other classes from the next frame on. No export, no reload; known names cost no encoding.

        `classes` is a text as `parse_classes` reads it, `"person,bike|bicycle"` or `"@file"`, or a list of entries:
        `["sofa, couch", "bike|bicycle"]` is two classes, for a list is taken literally except for `|`. `"cup:0.2"` gives
        a class its own confidence threshold. `"@mugs.npz, person"` takes over the classes that `save_classes` wrote; a
        class of which examples were shown is asked for by its label.
        If it raises, the classes stay as they were. May be called from another thread than `predict`.
        """
        with self._changing, self._shown.unchanged_on_error():
            if isinstance(classes, str):
                classes = expanded(classes, self._shown, lambda: self.regions.identity, self._manifest.text.dim)
            return self._activate(self._class_vectors.parse(classes), progress)

    def encode_classes(self, classes: str | Iterable[str], progress: Progress | None = None) -> ActiveClasses:
        """Classes as `set_classes` takes them, for `infer(prepared, active)`; those in use stay.

        For a program that labels pictures for several users at once. Not from two threads at the same time.
        """
        return self._encoded(self._class_vectors.parse(classes), progress)

    def _activate(self, parsed: tuple[ClassNames, ...], progress: Progress | None) -> ActiveClasses:
        self._active = self._encoded(parsed, progress)
        return self._active

    def _encoded(self, parsed: tuple[ClassNames, ...], progress: Progress | None) -> ActiveClasses:
        self._refuse_closed()
        vocabulary = self._class_vectors.vocabulary(parsed, progress)
        things = tuple(entry.names not in self._stuff for entry in parsed)
        self._version += 1
        readings = self._class_vectors.untrained(parsed)
        return ActiveClasses(vocabulary, len(parsed), things, self._version, readings, self._class_vectors.margin)

    @property
    def sensitivity(self) -> str:
        """How readily classes are found: "low", "normal" or "high"; may be set at any time, from any thread."""
        return self._class_vectors.sensitivity.value

    @sensitivity.setter
    def sensitivity(self, value: str) -> None:
        chosen = parse_sensitivity(value)
        with self._changing:
            self._class_vectors.sensitivity = chosen
            if self._active is not None:
                self._activate(self._active.classes, None)

    def candidates(self) -> ActiveClasses:
        """The classes in use, and every other name the model knows as a class of its own, for `infer`."""
        active = self.active
        vocabulary = self._class_vectors.candidates(active.classes)
        return replace(active, vocabulary=vocabulary)

    def reading(self, name: str) -> Reading:
        """What `name` is to the model: trained, near which trained name, misspelt, or not readable.

        >>> print(segmenter.reading("hair"))
        hair: never trained; nearest: person 0.31
        """
        return self._class_vectors.reading(name)

    def preload(self) -> None:
        """Load what encodes unknown names now, instead of with the first of them. Raises `BundleError`."""
        self._encoder.preload()

    def predict(self, image: ImageLike, *, rgb: bool = False) -> Prediction:
        """Segment one picture of any aspect, of at most 2**27 pixels (134 million) and 32,767 pixels a side.

        `image` is (H, W, 3) uint8 BGR as OpenCV reads it, or RGB with `rgb`; a path, a PIL.Image, a grey, 16-bit or
        float picture is converted as inference/input_image.py says. Raises `TypeError` or `ValueError` for anything
        else, `SourceError` for a file that is no photo, `UsageError` before `set_classes` and after `close`.
        """
        return self.finish(self.infer(self.prepare(as_bgr(image, rgb=rgb))))

    def prepare(self, image: npt.NDArray[np.uint8]) -> Prepared:
        """First of the three steps of `predict`, which may run in three threads: scale a frame (H, W, 3) uint8 BGR."""
        start = time.perf_counter()
        size, device = self._manifest.input_size, self._device_frames
        resized = None if device is None else device.to_input(image, size)
        tensor, letterbox = to_input(image, size) if resized is None else resized
        return Prepared(image, tensor, letterbox, {"preprocess": (time.perf_counter() - start) * 1e3})

    def infer(self, prepared: Prepared, active: ActiveClasses | None = None) -> Inferred:
        """Second step: the network, with `active` or the classes of this moment.

        May be called from several threads: `at_once` of them run, the others wait.
        """
        with self._running:
            self._refuse_closed()
            if active is None:
                active = self.active  # read once: `set_classes` may replace it while this frame is under way
            start = time.perf_counter()
            raw = None
            if self._task == "panoptic":
                raw = self._session.run_raw(prepared.tensor, active.vocabulary.vectors)
                labels, confidence = raw.labels, raw.confidence
            else:
                labels, confidence = self._session.run(prepared.tensor, active.vocabulary.vectors)
            timings = {**prepared.timings, "model": (time.perf_counter() - start) * 1e3}
        self._check(labels, confidence, len(active.vocabulary.classes))
        if not np.isfinite(confidence).all():
            raise BundleError(
                f"the segmenter {self._manifest.name} gave a confidence that is not a number; its weights are damaged, "
                "export the bundle again or use another precision"
            )
        return Inferred(prepared, active, labels, confidence, raw, timings)

    def finish(self, inferred: Inferred) -> Prediction:
        """Third step, in the order of the frames: smoothing, and the maps brought to the frame's size."""
        return self._finish(inferred, self.smoother)

    def _finish(self, inferred: Inferred, smoother: Smoother | None) -> Prediction:
        start = time.perf_counter()
        if smoother is not None:
            inferred = smoother.apply(inferred)
        active, letterbox = inferred.active, inferred.prepared.letterbox
        coarse, confidence = inferred.labels[0], inferred.confidence[0].astype(np.float32, copy=False)
        refinement, thresholds = self.refinement, self._thresholds(active)
        if self._device_frames is not None and not refinement.edges:
            coarse = _without_background(coarse, active.shown)
            index, score = self._device_frames.to_frame(coarse, confidence, letterbox, thresholds)
        else:
            # Of two maps the smaller one takes less time; edges are decided between the classes that are shown.
            first = refinement.edges or coarse.size < letterbox.source[0] * letterbox.source[1]
            coarse = _without_background(coarse, active.shown) if first else coarse.astype(np.int32, copy=False)
            index, score = to_frame(coarse, confidence, letterbox)
            if refinement.edges:
                index = follow_edges(coarse, index, score, inferred.prepared.image, letterbox)
            elif not first:
                index[index >= active.shown] = NOTHING
            index[score < _of_each(index, thresholds)] = NOTHING
        if refinement.least_region:
            index = without_small_regions(index, refinement.least_region)
        raw = inferred.raw
        ids, segments = (None, ()) if raw is None else frame_segments(raw, letterbox, active.labels, active.things)
        timings = {**inferred.timings, "postprocess": (time.perf_counter() - start) * 1e3}
        return Prediction(index, score, active.labels, timings, segments, ids, active.readings, active.version)

    def _thresholds(self, active: ActiveClasses) -> npt.NDArray[np.float32]:
        """The confidence threshold (N + 1,) of each of the user's classes, and of `NOTHING`, which is index -1."""
        own = [entry.threshold for entry in active.classes]
        usual = active.raised(self._threshold)
        return np.array([usual if value is None else value for value in (*own, None)], np.float32)

    def stream(
        self, source: str | Path | int | Iterable[Frame], smooth: float | None = None, keyframes: int = 1
    ) -> Iterator[tuple[Frame, Prediction]]:
        """Segment frame after frame of a file, folder, URL or device as `ovs-run --source` takes it, or of any frames.

        A number is a camera's index; a camera always gives its newest frame. `smooth` 0..1 is the strength of temporal
        smoothing (inference/smoothing.py) in this stream; without it, `smoother` smooths if it is set. `keyframes` N
        runs the network on every Nth frame only (inference/keyframes.py). Raises `SourceError`, `UsageError`.

        >>> for frame, prediction in segmenter.stream("clip.mp4", smooth=0.9):
        ...     print(frame.index, [region.label for region in prediction.regions()])
        """
        smoother = self.smoother if smooth is None else TemporalSmoother(smooth)
        steps = Keyframes(self, keyframes)
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
        self, frames: Iterable[Frame], smoother: Smoother | None, steps: Keyframes
    ) -> Iterator[tuple[Frame, Prediction]]:
        for frame in frames:
            yield frame, self._finish(steps.infer(steps.prepare(frame.image)), smoother)

    def close(self) -> None:
        """Free the engine. Afterwards, what needs it raises `UsageError`; closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._session.__exit__(None, None, None)
            if self._reader is not None:
                self._reader.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UsageError("the segmenter is closed; open another with Segmenter.load")

    def __enter__(self) -> Self:
        self._session.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, labels: npt.NDArray[np.integer], confidence: npt.NDArray[np.float32], classes: int) -> None:
        sound = labels.ndim == 3 and labels.shape[0] == 1 and labels.size and labels.shape == confidence.shape
        integers = np.issubdtype(labels.dtype, np.integer)
        if not sound or not integers or int(labels.max()) >= classes or int(labels.min()) < 0:
            raise BundleError(
                f"the segmenter gave labels {labels.dtype} {list(labels.shape)} and confidence "
                f"{list(confidence.shape)}, expected (1, h, w) each with labels from 0 to {classes - 1}; export it again"
            )
