"""ONNX Runtime on a device: inputs and outputs stay bound to its memory, and only what changes is copied.

The text vectors are uploaded when they change, not with every frame. With CUDA graphs, the kernels of a run are
recorded once for each padded shape of the text vectors and replayed afterwards (ONNX Runtime, CUDA execution provider,
`enable_cuda_graph`); padding is rows of zeros, which are no class.

Two frames are in flight: while one is on the network, the image of the next is uploaded and the labels of the one before
are downloaded, each frame in a slot with buffers of its own. Untested on a GPU.
"""

from __future__ import annotations

import queue
import threading
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

    from ..device_frames.resizer import DeviceFrames

_IMAGE, _TEXT = "image", "text_embeddings"
_OUTPUTS = ("labels", "confidence", "mask_logits", "class_logits")
_CLASSES = (8, 32, 128, 512)  # K to which classes are padded for CUDA graphs
_NAMES = (1, 4, 16, 64)  # S, likewise

Floats = npt.NDArray[np.float32]


@dataclass
class _Slot:
    """Buffers on the device for one frame in flight."""

    number: int
    image: Any = None  # OrtValue (1, H, W, 3)
    # For CUDA graphs only, by K and S: outputs by name, and the options with the number of the graph.
    recorded: dict[tuple[int, int], tuple[dict[str, Any], Any]] = field(default_factory=dict)


class BoundOnnxSession:
    """A segmenter graph in an ONNX Runtime session whose inputs and outputs are bound on a device.

    May be called from `at_once` threads. The caller must not change text vectors in place: a new array is what is noticed.
    """

    at_once = 2

    def __init__(
        self,
        session: Any,
        path: Path,
        graph: GraphSpec,
        *,
        device: str = "cuda",
        graphs: bool = False,
        frames: DeviceFrames | None = None,
    ) -> None:
        """`session` is an `onnxruntime.InferenceSession` of `path`; `device` is "cuda", or "cpu" in tests.

        `graphs` pads the text vectors and keeps every buffer's address, as the recorded kernels need it. `frames` are
        the resizes around the network on the same device.
        """
        self._ort = require("onnxruntime", "cuda")
        self._session: Any = session
        self._path, self._graph, self._device, self._graphs = path, graph, device, graphs
        # While kernels are recorded, no other thread may allocate, copy or wait on the device.
        self.at_once = 1 if graphs else BoundOnnxSession.at_once
        self.frames = frames
        self._slots: queue.LifoQueue[_Slot] = queue.LifoQueue()
        for number in range(self.at_once):
            self._slots.put(_Slot(number))
        self._running = threading.Lock()  # the network works on one frame at a time
        self._texts: dict[tuple[int, int], Any] = {}  # OrtValues (K, S, D)
        self._vectors: Floats | None = None  # what the device holds; kept, so that its identity stays its own
        self._active: tuple[int, int] | None = None  # key of the text vectors in use
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
        slot = self._slots.get()
        try:
            return self._bound_run(names, image, vectors, slot)
        except Exception as error:  # the binding raises a dozen unrelated types
            raise BundleError(
                f"{self._path} failed on image {list(image.shape)}, text_embeddings {list(vectors.shape)} ({error}); "
                "export the bundle again"
            ) from error
        finally:
            self._slots.put(slot)

    def _bound_run(
        self, names: tuple[str, ...], image: npt.NDArray[np.uint8], vectors: Floats, slot: _Slot
    ) -> list[Any]:
        marks = [time.perf_counter()]
        self._upload(image, slot)
        marks.append(time.perf_counter())
        with self._running:
            key = self._choose(vectors)
            outputs, options = self._recorded(slot, key) if self._graphs else ({}, None)
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(_IMAGE, slot.image)
            binding.bind_ortvalue_input(_TEXT, self._texts[key])
            for name in names:
                if self._graphs:
                    binding.bind_ortvalue_output(name, outputs[name])
                else:
                    binding.bind_output(name, self._device)
            binding.synchronize_inputs()
            self._session.run_with_iobinding(binding, options)
            binding.synchronize_outputs()
        marks.append(time.perf_counter())
        results = [outputs[name].numpy() for name in names] if self._graphs else binding.copy_outputs_to_cpu()
        if self._device == "cpu":  # there they are views of memory that the next frame overwrites
            results = [np.array(result) for result in results]
        marks.append(time.perf_counter())
        steps = zip(("upload", "infer", "download"), marks, marks[1:], strict=False)
        self.timings = {step: (end - start) * 1e3 for step, start, end in steps}
        return list(results)

    def _upload(self, image: npt.NDArray[np.uint8], slot: _Slot) -> None:
        image = np.ascontiguousarray(image)
        expected = self._graph.inputs[0].shape
        if self._graphs and image.shape != tuple(expected):  # recorded kernels read the buffer that is there
            raise UsageError(f"the image is {list(image.shape)}, expected {list(expected)}")
        if slot.image is None or tuple(slot.image.shape()) != image.shape:
            # A copy: on the CPU the value is the array itself, which later frames are written into.
            slot.image = self._ort.OrtValue.ortvalue_from_numpy(image.copy(), self._device, 0)
        else:
            slot.image.update_inplace(image)

    def _choose(self, vectors: Floats) -> tuple[int, int]:
        """Have the vectors on the device; returns the K and S under which they lie in `_texts`."""
        if vectors is self._vectors and self._active is not None:
            return self._active
        self._vectors = None  # a change that fails half-way must not pass for done
        array = _padded(vectors) if self._graphs else np.ascontiguousarray(vectors, np.float32)
        key = (array.shape[0], array.shape[1])
        if self._graphs and key in self._texts:
            self._texts[key].update_inplace(array)
        else:
            if not self._graphs:
                self._texts.clear()  # any number of shapes may follow each other; memory is for one
            self._texts[key] = self._ort.OrtValue.ortvalue_from_numpy(array, self._device, 0)
        self._active, self._vectors = key, vectors
        return key

    def _recorded(self, slot: _Slot, key: tuple[int, int]) -> tuple[dict[str, Any], Any]:
        """Outputs of a slot for K and S, at addresses that stay, and the options that choose their CUDA graph."""
        if key not in slot.recorded:
            sizes = {"K": key[0], "S": key[1], "K + 1": key[0] + 1}
            outputs = {}
            for spec in self._graph.outputs:
                axes = [axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape]
                dtype = np.dtype(spec.dtype)
                outputs[spec.name] = self._ort.OrtValue.ortvalue_from_shape_and_type(axes, dtype, self._device, 0)
            options = self._ort.RunOptions()
            number = 1 + slot.number + self.at_once * len(slot.recorded)
            options.add_run_config_entry("gpu_graph_id", str(number))
            slot.recorded[key] = outputs, options
        return slot.recorded[key]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._texts.clear()
        for slot in self._slots.queue:
            slot.image = None
            slot.recorded.clear()
        self._active = self._vectors = self._session = self.frames = None


def _padded(vectors: Floats) -> Floats:
    """Vectors (K, S, D) in an array of the next larger of the padded shapes, zeros behind them."""
    classes, names, dim = vectors.shape
    shape = [
        next((size for size in sizes if size >= one), one) for sizes, one in ((_CLASSES, classes), (_NAMES, names))
    ]
    array = np.zeros((*shape, dim), np.float32)
    array[:classes, :names] = vectors
    return array
