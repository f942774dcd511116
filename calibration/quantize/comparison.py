"""Compares a graph with FP32: share of equal labels, and time."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from ...runtime.engines.onnx_runtime import open_graph
from ...runtime.engines.session import RawOutputs
from .samples import CalibrationSample

if TYPE_CHECKING:
    from typing_extensions import Self

_OUTPUTS = ["labels", "confidence"]
_RARE = 0.001  # share of all pixels; classes below it are not reported


class GraphSession:
    """An ONNX Runtime session as a runtime `Session`, so that a `Segmenter` can use it."""

    at_once = 1

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """See `Session.run`."""
        labels, confidence = self._session.run(_OUTPUTS, {"image": image, "text_embeddings": text_embeddings})
        return labels, confidence

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]) -> RawOutputs:
        """Not supported: semantic segmentation does not need it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class OutputMaps:
    """Outputs of a graph for one sample, without the letterbox padding."""

    labels: npt.NDArray[np.integer]  # (h, w)
    confidence: npt.NDArray[np.float32]  # (h, w)


@dataclass(frozen=True)
class GraphComparison:
    """Labels compared with FP32's."""

    agreement: float  # share of pixels with the same label, mean over samples
    worst: float  # the same, of the worst sample
    confidence_shift: float  # mean absolute difference of the confidence
    finite: bool  # every confidence is a number
    classes: dict[str, float]  # name -> share of FP32's pixels of this class that keep it; without rare classes


def open_model(model: onnx.ModelProto, threads: int, *, exact: bool = False) -> Any:
    """An ONNX Runtime CPU session of a graph in memory; for `exact` see `open_graph`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(model.SerializeToString())
        return open_graph(path, threads, "cpu", exact=exact)


def run_sample(session: Any, sample: CalibrationSample) -> OutputMaps:
    """Labels and confidence of the image, without the padding."""
    labels, confidence = session.run(_OUTPUTS, sample.feeds)
    height, width = sample.letterbox.scaled_in(labels.shape[1:])
    return OutputMaps(labels[0, :height, :width], confidence[0, :height, :width])


def compare(
    expected: Sequence[OutputMaps],
    session: Any,
    samples: Sequence[CalibrationSample],
    tick: Callable[[], None] = lambda: None,
) -> GraphComparison:
    """Run every sample and compare its outputs with FP32's, `expected`; `tick` is called after each."""
    equal, shifts, finite = [], [], True
    total: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for truth, sample in zip(expected, samples, strict=True):
        found = run_sample(session, sample)
        same = found.labels == truth.labels
        equal.append(float(same.mean()))
        finite = finite and bool(np.isfinite(found.confidence).all())
        shifts.append(float(np.abs(found.confidence - truth.confidence).mean()))
        count = len(sample.words.labels)
        for counter, where in ((total, ...), (kept, same)):
            pixels = np.bincount(truth.labels[where].ravel(), minlength=count)
            counter.update({name: int(n) for name, n in zip(sample.words.labels, pixels, strict=True) if n})
        tick()
    return GraphComparison(
        agreement=float(np.mean(equal)),
        worst=min(equal),
        confidence_shift=float(np.mean(shifts)),
        finite=finite,
        classes={name: kept[name] / total[name] for name in sorted(total) if total[name] >= _RARE * total.total()},
    )
