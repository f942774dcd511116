"""What a row of a speed measurement runs: anything that turns one camera frame into a labelled picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...bundle.errors import SourceError
from ...runtime.capture.registry import open_source
from ...runtime.draw.overlay import Style, draw
from ...runtime.inference.frame_processor import ActiveClasses
from ...runtime.opencv import cv2
from ...runtime.segmenter import Segmenter

STAGES = ("decode", "preprocess", "upload", "infer", "download", "postprocess", "overlay", "encode")
_PICTURES = 32  # different frames, in turn, so that no input is cached from the last run
_SIZE = (480, 640)  # height, width of the synthetic frames
_QUALITY = 90  # of input and output JPEGs


@dataclass(frozen=True)
class Subject:
    """What was measured. Results of the same subject can be compared."""

    model: str  # the bundle's folder without .ovs, or the peer's file or command
    backend: str  # one of `BACKENDS`, or "peer"
    precision: str | None = None
    input_size: tuple[int, int] | None = None  # height, width in pixels
    decoder_layers: int | None = None
    masks: str | None = None  # exact or fast
    classes: int | None = None  # K of the network's input
    names: int | None = None  # S
    threads: int = 0  # 0: the engine's default

    @property
    def title(self) -> str:
        """Name in tables; identifies the same subject in another result."""
        parts = [self.model, self.precision, self.backend]
        parts += ["x".join(map(str, self.input_size))] if self.input_size else []
        parts += [f"{self.decoder_layers} layers"] if self.decoder_layers is not None else []
        parts += [f"K={self.classes}"] if self.classes is not None else []
        return " ".join(part for part in parts if part)


@dataclass(frozen=True)
class Picture:
    """One frame as a camera delivers it."""

    jpeg: npt.NDArray[np.uint8]  # (bytes,)
    path: Path  # file with the same bytes, for runners in another process


class FrameRunner(Protocol):
    """Runs frames for one row of the table."""

    subject: Subject
    bundle_digest: str | None  # None for a peer

    def frame(self, picture: Picture) -> dict[str, float]:
        """Process one frame; milliseconds of each of the `STAGES` that it has, and of all together as "total".

        "cpu" is the CPU time of the network over all threads of this process, for runners in this process.
        """
        ...


class BundleRunner:
    """A bundle, with the same steps as `ovs-run`: from a JPEG to a JPEG with the labels drawn."""

    def __init__(
        self, subject: Subject, bundle_digest: str, segmenter: Segmenter, session: Any, active: ActiveClasses
    ) -> None:
        """`session` is the segmenter's; if it has `timings`, they replace the time of the network."""
        self.subject = subject
        self.bundle_digest: str | None = bundle_digest
        self._segmenter, self._session, self._active = segmenter, session, active
        self._style = Style()

    def frame(self, picture: Picture) -> dict[str, float]:
        """See `FrameRunner.frame`."""
        marks = [time.perf_counter()]
        image = cv2.imdecode(picture.jpeg, cv2.IMREAD_COLOR)
        marks.append(time.perf_counter())
        prepared = self._segmenter.prepare(image)
        marks.append(time.perf_counter())
        busy = time.process_time()
        inferred = self._segmenter.infer(prepared, self._active)
        busy = time.process_time() - busy
        marks.append(time.perf_counter())
        prediction = self._segmenter.finish(inferred)
        marks.append(time.perf_counter())
        drawn = draw(image, prediction, self._style)
        marks.append(time.perf_counter())
        cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        marks.append(time.perf_counter())
        names = ("decode", "preprocess", "infer", "postprocess", "overlay", "encode")
        steps = {name: (end - start) * 1e3 for name, start, end in zip(names, marks, marks[1:], strict=False)}
        copies = getattr(self._session, "timings", None)
        if copies:
            steps |= copies
        total = (marks[-1] - marks[0]) * 1e3
        return {**{name: steps[name] for name in STAGES if name in steps}, "cpu": busy * 1e3, "total": total}


def load_pictures(source: str | None, folder: Path) -> list[Picture]:
    """Frames of a `source` as `ovs-run --source` takes it, or synthetic ones, as JPEGs in memory and in `folder`."""
    images: Sequence[npt.NDArray[np.uint8]]
    if source is None:
        images = [_synthetic(seed) for seed in range(_PICTURES)]
    else:
        opened = open_source(source, None)
        try:
            # Spread over the whole source if its length is known, so that they differ.
            step = max(1, (opened.total or _PICTURES) // _PICTURES)
            images = [frame.image for frame, _ in zip(_every(opened, step), range(_PICTURES), strict=False)]
        finally:
            opened.close()
    pictures = []
    for number, image in enumerate(images):
        encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not encoded:
            raise SourceError(f"frame {number} of {source} cannot be written as JPEG; give photos of another kind")
        path = folder / f"{number:03d}.jpg"
        path.write_bytes(data.tobytes())
        pictures.append(Picture(data.ravel(), path))
    return pictures


def _every(frames: Any, step: int) -> Any:
    return (frame for index, frame in enumerate(frames) if index % step == 0)


def _synthetic(seed: int) -> npt.NDArray[np.uint8]:
    """Colour patches (480, 640, 3) BGR with edges and flat areas: JPEG and overlay cost about as much as for photos."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (_SIZE[1], _SIZE[0]), interpolation=cv2.INTER_CUBIC)
    fine = rng.integers(0, 24, image.shape, dtype=np.uint8)
    image = cv2.add(image, fine)
    for _ in range(12):
        x, y, radius = (int(rng.integers(0, limit)) for limit in (_SIZE[1], _SIZE[0], 90))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        cv2.circle(image, (x, y), radius + 8, colour, cv2.FILLED, cv2.LINE_AA)
    result: npt.NDArray[np.uint8] = image
    return result
