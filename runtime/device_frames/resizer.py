"""Frames to the network's input and label maps back to frames, in ONNX Runtime on a device.

Two small graphs (made by export/frame_graphs.py) hold both resizes as ONNX operators that every execution provider has.
They need nothing beside the ONNX Runtime that runs the network, while kernels through CuPy need another package for each
version of CUDA, and its toolkit. Untested on a GPU; on the CPU provider the results equal those of OpenCV.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import require
from ...bundle.letterbox import Letterbox
from .resampling import frame_plan, input_plan, shrinks

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
Empty = Callable[[tuple[int, ...], npt.DTypeLike], npt.NDArray[Any]]

_FOLDER = Path(__file__).parent
_BYTE_LABELS = 255  # value of a pixel without label where labels are bytes
_MOST_PLANS = 4  # sizes of frames whose indices and weights are kept on the device


class DeviceFrames:
    """Both resizes of a segmenter on a device. May be called from several threads."""

    def __init__(self, open_graph: Callable[[Path], Any], device: str = "cuda", empty: Empty = np.empty) -> None:
        """`open_graph` gives the `onnxruntime.InferenceSession` of a file, `empty` memory that the device can reach."""
        self._empty = empty
        self._letterbox = _Graph(open_graph(_FOLDER / "letterbox.onnx"), device)
        self._bytes = _Graph(open_graph(_FOLDER / "label_map_uint8.onnx"), device)
        self._integers = _Graph(open_graph(_FOLDER / "label_map_int32.onnx"), device)

    def to_input(
        self, image: npt.NDArray[np.uint8], size: tuple[int, int]
    ) -> tuple[npt.NDArray[np.uint8], Letterbox] | None:
        """A frame (H, W, 3) BGR as the network's input (1, h, w, 3); None for one that is better resized on the CPU.

        A frame that is not larger than the input costs the CPU less than the copy to the device would.
        """
        letterbox = Letterbox.fit(image.shape[:2], size)
        if not shrinks(letterbox):
            return None
        tensor = self._empty((1, *size, 3), np.uint8)
        self._letterbox.run(
            letterbox, lambda: _input_arrays(letterbox), {"frame": self._staged(image)}, {"image": tensor}
        )
        return tensor, letterbox

    def to_frame(
        self, labels: Labels, confidence: Floats, letterbox: Letterbox, thresholds: Floats
    ) -> tuple[Labels, Floats]:
        """Maps (h, w) of the network's size as maps (H, W) of the frame's size.

        A label, -1 or more, becomes -1 where its confidence is below its entry of `thresholds` (N + 1,), whose last is
        that of -1.
        """
        graph, table = self._integers, thresholds
        dtype: np.dtype[Any] = np.dtype(np.int32)
        if len(thresholds) <= _BYTE_LABELS + 1:
            graph, dtype = self._bytes, np.dtype(np.uint8)
            table = np.zeros(_BYTE_LABELS + 1, np.float32)
            table[: len(thresholds) - 1], table[-1] = thresholds[:-1], thresholds[-1]
        size = labels.shape
        found, score = self._empty(letterbox.source, dtype), self._empty(letterbox.source, np.float32)
        graph.run(
            (letterbox, size),
            lambda: _frame_arrays(letterbox, (size[0], size[1])),
            {
                "labels": self._staged(labels.astype(dtype, copy=False)),  # -1 becomes 255
                "confidence": self._staged(confidence),
                "thresholds": table,
            },
            {"frame_labels": found, "frame_confidence": score},
        )
        if dtype == np.uint8:
            found += 1  # 255, no label, becomes 0
            whole = found.astype(np.int32)
            whole -= 1
            return whole, score
        return found, score

    def _staged(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The array in memory that the device can reach."""
        if self._empty is np.empty:
            return np.ascontiguousarray(array)
        staged = self._empty(array.shape, array.dtype)
        staged[...] = array
        return staged


class _Graph:
    """A session whose indices and weights stay on the device for the last few sizes."""

    def __init__(self, session: Any, device: str) -> None:
        self._ort = require("onnxruntime", "cuda")
        self._session, self._device = session, device
        self._plans: OrderedDict[object, dict[str, Any]] = OrderedDict()  # inputs by their names, as OrtValues
        self._lock = threading.Lock()

    def run(
        self,
        key: object,
        plan: Callable[[], Mapping[str, npt.NDArray[Any]]],
        inputs: Mapping[str, npt.NDArray[Any]],
        outputs: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        """Fill the arrays of `outputs`. `plan` gives the inputs that depend on `key` only."""
        value = self._ort.OrtValue.ortvalue_from_numpy
        with self._lock:
            if key not in self._plans:
                self._plans[key] = {name: value(array, self._device, 0) for name, array in plan().items()}
                if len(self._plans) > _MOST_PLANS:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(key)
            binding = self._session.io_binding()
            for name, held in self._plans[key].items():
                binding.bind_ortvalue_input(name, held)
            for name, array in inputs.items():
                binding.bind_ortvalue_input(name, value(array, self._device, 0))
            for name, array in outputs.items():
                binding.bind_ortvalue_output(name, value(array))  # on the CPU: written by the copy from the device
            binding.synchronize_inputs()
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()


def _input_arrays(letterbox: Letterbox) -> dict[str, npt.NDArray[Any]]:
    plan = input_plan(letterbox)
    return {
        "rows": plan.rows.indices,
        "row_weights": plan.rows.weights,
        "columns": plan.columns.indices,
        "column_weights": plan.columns.weights,
        "padding": plan.padding,
        "rounding": plan.rounding,
    }


def _frame_arrays(letterbox: Letterbox, size: tuple[int, int]) -> dict[str, npt.NDArray[Any]]:
    plan = frame_plan(letterbox, size)
    arrays: dict[str, npt.NDArray[Any]] = {
        "nearest_rows": plan.nearest_rows,
        "nearest_columns": plan.nearest_columns,
    }
    for index, end in enumerate(("first", "second")):
        arrays[f"row_{end}"] = np.ascontiguousarray(plan.rows.indices[:, index])
        arrays[f"row_{end}_weight"] = np.ascontiguousarray(plan.rows.weights[:, index : index + 1])
        arrays[f"column_{end}"] = np.ascontiguousarray(plan.columns.indices[:, index])
        arrays[f"column_{end}_weight"] = np.ascontiguousarray(plan.columns.weights[:, index])
    return arrays
