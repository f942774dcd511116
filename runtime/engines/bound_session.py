"""ONNX Runtime on a device: inputs and outputs stay bound to its memory, and only what changes is copied.

The text vectors are uploaded when they change, not with every frame. With CUDA graphs, the kernels of a run are
recorded once for each padded shape of the text vectors and replayed afterwards (ONNX Runtime, CUDA execution provider,
`enable_cuda_graph`); padding is rows of zeros, which are no class. Untested on a GPU.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import BundleError, UsageError, require
from ...bundle.manifest import GraphSpec
from .session import RawOutputs

if TYPE_CHECKING:
    from typing_extensions import Self

_IMAGE, _TEXT = "image", "text_embeddings"
_OUTPUTS = ("labels", "confidence", "mask_logits", "class_logits")
_CLASSES = (8, 32, 128, 512)  # K to which classes are padded for CUDA graphs
_NAMES = (1, 4, 16, 64)  # S, likewise

Floats = npt.NDArray[np.float32]


@dataclass
class _Shape:
    """Buffers on the device for one shape of the text vectors."""

    text: Any  # OrtValue (K, S, D)
    outputs: dict[str, Any] = field(default_factory=dict)  # name -> OrtValue; filled for CUDA graphs only
    options: Any = None  # onnxruntime.RunOptions with the number of the CUDA graph


class BoundOnnxSession:
    """A segmenter graph in an ONNX Runtime session whose inputs and outputs are bound on a device.

    One call at a time. The caller must not change text vectors in place: a new array is what is noticed.
    """

    at_once = 1

    def __init__(
        self, session: Any, path: Path, graph: GraphSpec, *, device: str = "cuda", graphs: bool = False
    ) -> None:
        """`session` is an `onnxruntime.InferenceSession` of `path`; `device` is "cuda", or "cpu" in tests.

        `graphs` pads the text vectors and keeps every buffer's address, as the recorded kernels need it.
        """
        self._ort = require("onnxruntime", "cuda")
        self._session: Any = session
        self._path, self._graph, self._device, self._graphs = path, graph, device, graphs
        self._image: Any = None
        self._shapes: dict[tuple[int, int], _Shape] = {}
        self._vectors: Floats | None = None  # what the device holds; kept, so that its identity stays its own
        self._active: _Shape | None = None
        self.timings: dict[str, float] = {}  # of the last run: upload, infer, download, in milliseconds

    def run(self, image: npt.NDArray[np.uint8], text_embeddings: Floats) -> tuple[npt.NDArray[np.integer], Floats]:
        """See `Session.run`."""
        labels, confidence = self._run(_OUTPUTS[:2], image, text_embeddings)
        return labels, confidence

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: Floats) -> RawOutputs:
        """See `Session.run_raw`."""
        labels, confidence, masks, classes = self._run(_OUTPUTS, image, text_embeddings)
        # The last column is "no object"; with CUDA graphs it stands behind the padding.
        classes = np.concatenate((classes[..., : len(text_embeddings)], classes[..., -1:]), -1)
        return RawOutputs(labels, confidence, masks, classes)

    def _run(self, names: tuple[str, ...], image: npt.NDArray[np.uint8], vectors: Floats) -> list[Any]:
        if self._session is None:
            raise UsageError("the segmenter is closed; open another with Segmenter.load")
        try:
            return self._bound_run(names, image, vectors)
        except Exception as error:  # the binding raises a dozen unrelated types
            self._vectors = None  # a change that failed half-way must not pass for done
            raise BundleError(
                f"{self._path} failed on image {list(image.shape)}, text_embeddings {list(vectors.shape)} ({error}); "
                "export the bundle again"
            ) from error

    def _bound_run(self, names: tuple[str, ...], image: npt.NDArray[np.uint8], vectors: Floats) -> list[Any]:
        marks = [time.perf_counter()]
        self._upload(image)
        shape = self._choose(vectors)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(_IMAGE, self._image)
        binding.bind_ortvalue_input(_TEXT, shape.text)
        for name in names:
            if self._graphs:
                binding.bind_ortvalue_output(name, shape.outputs[name])
            else:
                binding.bind_output(name, self._device)
        binding.synchronize_inputs()
        marks.append(time.perf_counter())
        self._session.run_with_iobinding(binding, shape.options)
        binding.synchronize_outputs()
        marks.append(time.perf_counter())
        results = [shape.outputs[name].numpy() for name in names] if self._graphs else binding.copy_outputs_to_cpu()
        if self._device == "cpu":  # there they are views of memory that the next frame overwrites
            results = [np.array(result) for result in results]
        marks.append(time.perf_counter())
        steps = zip(("upload", "infer", "download"), marks, marks[1:], strict=False)
        self.timings = {step: (end - start) * 1e3 for step, start, end in steps}
        return list(results)

    def _upload(self, image: npt.NDArray[np.uint8]) -> None:
        image = np.ascontiguousarray(image)
        if self._image is None or tuple(self._image.shape()) != image.shape:
            self._image = self._ort.OrtValue.ortvalue_from_numpy(image, self._device, 0)
        else:
            self._image.update_inplace(image)

    def _choose(self, vectors: Floats) -> _Shape:
        """Have the vectors on the device, in the buffers of their shape."""
        if vectors is self._vectors and self._active is not None:
            return self._active
        self._vectors = None
        array = _padded(vectors) if self._graphs else np.ascontiguousarray(vectors, np.float32)
        key = array.shape[:2]
        if self._graphs and key in self._shapes:
            self._shapes[key].text.update_inplace(array)
        else:
            if not self._graphs:
                self._shapes.clear()  # any number of shapes may follow each other; memory is for one
            self._shapes[key] = self._new_shape(array)
        self._active, self._vectors = self._shapes[key], vectors
        return self._active

    def _new_shape(self, array: Floats) -> _Shape:
        shape = _Shape(self._ort.OrtValue.ortvalue_from_numpy(array, self._device, 0))
        if self._graphs:
            sizes = {"K": array.shape[0], "S": array.shape[1], "K + 1": array.shape[0] + 1}
            for spec in self._graph.outputs:
                axes = [axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape]
                dtype = np.dtype(spec.dtype)
                shape.outputs[spec.name] = self._ort.OrtValue.ortvalue_from_shape_and_type(axes, dtype, self._device, 0)
            shape.options = self._ort.RunOptions()
            shape.options.add_run_config_entry("gpu_graph_id", str(len(self._shapes) + 1))
        return shape

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shapes.clear()
        self._image = self._active = self._vectors = self._session = None


def _padded(vectors: Floats) -> Floats:
    """Vectors (K, S, D) in an array of the next larger of the padded shapes, zeros behind them."""
    classes, names, dim = vectors.shape
    shape = [
        next((size for size in sizes if size >= one), one) for sizes, one in ((_CLASSES, classes), (_NAMES, names))
    ]
    array = np.zeros((*shape, dim), np.float32)
    array[:classes, :names] = vectors
    return array
