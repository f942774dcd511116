"""One network for several cameras: one session and one text encoder, and a segmenter of its own for each camera."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import UsageError
from ...models import default_bundle
from ..engines.engine import EngineOptions
from ..engines.registry import open_resolved, resolve
from ..engines.session import RawOutputs, Session
from ..examples.reader import RegionReader
from ..inference.refinement import Refinement
from ..inference.smoothing import STRENGTH, TemporalSmoother
from ..segmenter import Segmenter, SegmenterOptions
from ..vocabulary.class_vectors import Progress
from ..vocabulary.text_encoder import TextEncoder
from .config import CameraConfig, ModelConfig, Sharing

if TYPE_CHECKING:
    from typing_extensions import Self


class _SharedSession:
    """The session as each camera has it: no more runs at once than it can take, and no camera closes it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running = threading.BoundedSemaphore(session.at_once)
        self.at_once = session.at_once

    def run(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """See `Session.run`."""
        with self._running:
            return self._session.run(image, text_embeddings)

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]) -> RawOutputs:
        """See `Session.run_raw`."""
        with self._running:
            return self._session.run_raw(image, text_embeddings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The session stays open for the other cameras."""


class _SharedEncoder:
    """The text encoder for several threads."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._lock = threading.RLock()

    def encode(self, names: Sequence[str], progress: Progress | None = None) -> npt.NDArray[np.float32]:
        """See `TextEncoder.encode`."""
        with self._lock:
            return self._encoder.encode(names, progress)

    def tokens(self, name: str) -> list[str | None]:
        """See `TextEncoder.tokens`."""
        with self._lock:
            return self._encoder.tokens(name)

    def preload(self) -> None:
        """See `TextEncoder.preload`."""
        with self._lock:
            self._encoder.preload()


class SharedModel:
    """The network of all cameras."""

    def __init__(self, config: ModelConfig) -> None:
        """Opens the bundle. Raises `BundleError`, `PlanError`, `UsageError`, `MissingExtraError`."""
        bundle = Bundle.open(config.bundle or default_bundle(), force=config.force)
        side_by_side = config.sharing is not Sharing.ONE_AT_A_TIME
        options = EngineOptions(config.precision, config.threads, config.provider, config.plan, side_by_side)
        engine, resolved = resolve(bundle, options)
        self._engine = open_resolved(bundle, engine, resolved)
        self._session = _SharedSession(self._engine)
        self._encoder = _SharedEncoder(TextEncoder(bundle, config.threads))
        self._reader = RegionReader(bundle, config.threads)
        self._task = config.task
        self.manifest = bundle.manifest
        self.precision = resolved.precision

    @property
    def at_once(self) -> int:
        """How many frames the session takes at the same time."""
        return self._session.at_once

    def segmenter(self, camera: CameraConfig) -> Segmenter:
        """A segmenter for the classes and settings of `camera`. Raises `UsageError`."""
        options = SegmenterOptions(
            camera.background, task=self._task, stuff=camera.stuff, exact_words=camera.exact_words
        )
        segmenter = Segmenter(self.manifest, self._session, self._encoder, options, self._reader)
        segmenter.precision = self.precision
        segmenter.threshold = threshold(segmenter, camera)
        segmenter.sensitivity = camera.sensitivity.value
        segmenter.refinement = refinement(camera)
        segmenter.set_classes(camera.classes)
        if camera.keyframes > 1 and segmenter.task != "semantic":
            raise UsageError("keyframes is for semantic segmentation; use task = semantic, or leave it out")
        strength = camera.smooth
        if strength is None:
            strength = STRENGTH if segmenter.task == "semantic" else 0.0
        segmenter.smoother = TemporalSmoother(strength) if strength else None
        return segmenter

    def close(self) -> None:
        """Free the engine."""
        self._reader.close()
        self._engine.__exit__(None, None, None)


def threshold(segmenter: Segmenter, camera: CameraConfig) -> float:
    """The confidence threshold of `camera`: its own, or the bundle's."""
    return segmenter.default_threshold if camera.threshold is None else camera.threshold


def refinement(camera: CameraConfig) -> Refinement:
    """What is done to the labels of `camera` at the end."""
    return Refinement(edges=camera.refine_edges, least_region=camera.min_region)
