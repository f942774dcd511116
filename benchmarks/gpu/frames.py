"""Frames of odd sizes through the resizes on a device: labels compared with the CPU's, and the time of both."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...runtime.device_frames.resizer import DeviceFrames
from ...runtime.engines.engine import EngineOptions
from ...runtime.engines.onnx_runtime import open_graph
from ...runtime.engines.registry import open_session
from ...runtime.engines.session import Session
from ...runtime.opencv import cv2
from ...runtime.segmenter import Segmenter, SegmenterOptions
from ...runtime.vocabulary.text_encoder import TextEncoder

if TYPE_CHECKING:
    from typing_extensions import Self

_LEAST_EQUAL = 0.999
_RUNS = 5
_CLASSES = (1, 20)  # K, besides the background classes


@dataclass(frozen=True)
class FrameRow:
    """One size of frame and number of classes."""

    model: str
    backend: str
    precision: str
    frame_size: tuple[int, int]  # height, width
    classes: int  # of the user
    labels_equal: float  # share of the frame's pixels
    least_equal: float  # acceptance threshold
    device_ms: tuple[float, float]  # median time to make the input, and to bring the labels back
    cpu_ms: tuple[float, float]  # the same with OpenCV

    @property
    def passed(self) -> bool:
        """Whether it is within the acceptance threshold."""
        return self.labels_equal >= self.least_equal


def measure_frames(
    bundle: Bundle,
    backend: str,
    sizes: Sequence[tuple[int, int]],
    tell: Callable[[str], None],
    deadline: float = math.inf,
) -> tuple[list[FrameRow], list[str]]:
    """Rows of every size, and what was left out. `backend` "cpu" runs the device's graphs on the CPU provider."""
    rows, left_out = [], []
    with ExitStack() as stack:
        plain = stack.enter_context(open_session(bundle, EngineOptions("fp32", provider="cpu")))
        session: Session = _OnCpu(plain)
        if backend != "cpu":
            session = stack.enter_context(open_session(bundle, EngineOptions("fp32", provider=backend)))
        encoder = TextEncoder(bundle)
        device, reference = (Segmenter(bundle.manifest, one, encoder, SegmenterOptions()) for one in (session, plain))
        known = [names[0] for names in bundle.manifest.background_classes]
        for size in sizes:
            for count in _CLASSES:
                if time.monotonic() > deadline:
                    left_out.append(f"{bundle.manifest.name} {size[1]}x{size[0]} K={count}: out of time")
                    continue
                tell(f"frames of {size[1]}x{size[0]}, K={count}")
                for segmenter in (device, reference):
                    segmenter.set_classes(known[:count] or ["person"])
                rows.append(_row(bundle.manifest.name, backend, (device, reference), _image(size)))
    return rows, left_out


def _row(model: str, backend: str, segmenters: tuple[Segmenter, Segmenter], image: npt.NDArray[np.uint8]) -> FrameRow:
    predictions = [segmenter.predict(image) for segmenter in segmenters]
    times = []
    for segmenter in segmenters:
        timings = [segmenter.predict(image).timings for _ in range(_RUNS)]
        times.append([float(np.median([one[step] for one in timings])) for step in ("preprocess", "postprocess")])
    return FrameRow(
        model=model,
        backend=backend,
        precision="fp32",
        frame_size=(image.shape[0], image.shape[1]),
        classes=len(predictions[0].classes),
        labels_equal=float((predictions[0].labels == predictions[1].labels).mean()),
        least_equal=_LEAST_EQUAL,
        device_ms=(times[0][0], times[0][1]),
        cpu_ms=(times[1][0], times[1][1]),
    )


def _image(size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Smooth colours with noise, (H, W, 3) BGR."""
    rng = np.random.default_rng(size[0] * 10007 + size[1])
    smooth = cv2.resize(rng.integers(0, 200, (9, 9, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    found: npt.NDArray[np.uint8] = cv2.add(smooth.reshape(*size, 3), rng.integers(0, 56, (*size, 3), np.uint8))
    return found


class _OnCpu:
    """A session on the CPU whose frames go through the device's graphs, also on the CPU."""

    def __init__(self, session: Session) -> None:
        self.frames = DeviceFrames(lambda path: open_graph(path, 1), "cpu")
        self.at_once = session.at_once
        self.run, self.run_raw = session.run, session.run_raw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The session belongs to the caller."""
