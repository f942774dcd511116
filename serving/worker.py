"""What one replica does: decodes a picture, finds the classes of this request in it, encodes the answer.

Nothing of a request is kept but vectors of names: the classes travel with the picture through every step, and the
segmenter has no classes of its own.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.errors import OvsError, SourceError, UsageError
from ..bundle.vocabulary import parse_class_entries
from ..runtime.capture.photos import decode_photo
from ..runtime.engines.engine import EngineOptions
from ..runtime.engines.registry import resolve
from ..runtime.inference.frame_processor import ActiveClasses
from ..runtime.inference.interop import to_coco
from ..runtime.inference.prediction import NOTHING, Prediction
from ..runtime.opencv import cv2
from ..runtime.segmenter import Segmenter, SegmenterOptions
from ..runtime.vocabulary.text_encoder import TextEncoder
from .class_cache import ClassCache
from .messages import AnswerFormat, SegmentAnswer, SegmentRequest, error_answer
from .picture_size import picture_size

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_NAMES = 512  # of all classes of a request: each new one runs the text encoder
AT_ONCE = 2  # requests of a replica: while the network works on one picture, the next one is decoded
_KINDS = ("JPEG", "PNG", "WebP", "BMP")
_MOST_IN_A_BYTE = 255  # classes of an 8-bit PNG; 255 itself is no class


@dataclass(frozen=True)
class WorkerOptions:
    """How a replica runs."""

    bundle: Path
    engine: EngineOptions
    segmenter: SegmenterOptions
    most_pixels: int  # of a picture
    cache_bytes: int  # of vectors of class lists


class SegmentWorker:
    """A segmenter that takes requests from several threads. Raises `BundleError`, `UsageError`, … when it is made."""

    def __init__(self, options: WorkerOptions) -> None:
        opened = Bundle.open(options.bundle)
        engine, resolved = resolve(opened, options.engine)
        # Names are private: no file tells what was asked for.
        self._encoder = TextEncoder(opened, options.engine.threads, keep=False)
        session = engine.open(opened, resolved)
        self._segmenter = Segmenter(opened.manifest, session, self._encoder, options.segmenter)
        self._classes = ClassCache(self._encode, options.cache_bytes)
        self._most_pixels = options.most_pixels
        self._encoder.preload()

    def segment(self, request: SegmentRequest) -> SegmentAnswer:
        """The answer to a request; one that cannot be met is an answer with a 4xx status, nothing is raised for it."""
        start = time.perf_counter()
        refusal = self._refusal(request.image)
        if refusal is not None:
            return refusal
        try:
            image = decode_photo(request.image, "the picture")
            decoded = time.perf_counter()
            active, cached = self._classes.get(request.classes)
        except (UsageError, SourceError) as error:
            return error_answer(400, str(error))
        encoded = time.perf_counter()
        try:
            prepared = self._segmenter.prepare(image)
            prediction = self._segmenter.finish(self._segmenter.infer(prepared, active))
        except OvsError as error:
            return error_answer(500, str(error))
        predicted = time.perf_counter()
        kind, body = _png(prediction) if request.answer is AnswerFormat.PNG else _coco(prediction)
        steps = {
            "decode": decoded - start,
            "classes": encoded - decoded,
            "predict": predicted - encoded,
            "answer": time.perf_counter() - predicted,
        }
        return SegmentAnswer(200, kind, body, prediction.classes, cached, tuple(steps.items()))

    def close(self) -> None:
        """Free the engine."""
        self._segmenter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _encode(self, entries: tuple[str, ...]) -> ActiveClasses:
        # Every new name by itself: together with others its vector would differ in the last bits, and an answer would
        # depend on what other clients asked for before.
        parsed = parse_class_entries(entries, self._segmenter.manifest.graph.max_classes)
        names = [name for entry in parsed for name in entry.names]
        if len(names) > MOST_NAMES:
            raise UsageError(f"the classes have {len(names)} names, at most {MOST_NAMES} are read; send fewer")
        for name in names:
            self._encoder.encode([name])
        return self._segmenter.encode_classes(entries)

    def _refusal(self, data: bytes) -> SegmentAnswer | None:
        kind, size = picture_size(data)
        if kind not in _KINDS:
            return error_answer(415, f"the picture is {kind}, {len(data)} bytes; expected {', '.join(_KINDS)}")
        if size is None or 0 in size:
            return error_answer(400, f"the {kind} tells no width and height; it is damaged")
        if size[0] * size[1] > self._most_pixels:
            return error_answer(
                413,
                f"the picture has {size[0]}x{size[1]} pixels, at most {self._most_pixels} in all; send a smaller one",
            )
        return None


def _png(prediction: Prediction) -> tuple[str, bytes]:
    wide = len(prediction.classes) > _MOST_IN_A_BYTE
    kind = np.uint16 if wide else np.uint8
    table = np.array([*range(len(prediction.classes)), np.iinfo(kind).max], kind)  # the last entry is for NOTHING, -1
    assert NOTHING == -1
    written, data = cv2.imencode(".png", table[prediction.labels])
    assert written
    return "image/png", data.tobytes()


def _coco(prediction: Prediction) -> tuple[str, bytes]:
    height, width = prediction.labels.shape
    readings = [asdict(reading) for reading in prediction.readings]
    document: dict[str, Any] = {
        "width": width,
        "height": height,
        "categories": [{"id": number, "name": name} for number, name in enumerate(prediction.classes, 1)],
        "annotations": to_coco(prediction),
        "untrained": readings,
    }
    return "application/json", json.dumps(document, ensure_ascii=False).encode()
