"""ONNX Runtime: the CPU, or an NVIDIA GPU where its CUDA build is installed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import BundleError, UsageError, require
from ...bundle.processor import has_vnni, usable_cores
from .session import Provider, RawOutputs

if TYPE_CHECKING:
    from typing_extensions import Self

_ERRORS_ONLY = 3  # ONNX Runtime's log severity
_MOST_AT_ONCE = 4  # frames side by side; each has activations of its own
_CUDA = ("CUDAExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})  # by need, not by powers of two


def open_graph(path: Path, threads: int, provider: Provider, arena: bool = True, exact: bool = False) -> Any:
    """An `onnxruntime.InferenceSession` of the file at `path`.

    `arena` False returns memory to the system after each run: right for a graph that runs now and then. `exact` computes
    INT8 layers on the rounded values in FP32: without VNNI, x86 adds in 16 bits, where full-range weights run over.
    """
    ort = require("onnxruntime", "cpu")
    if threads < 0:
        raise UsageError(f"{threads} threads were asked for, expected 1 or more, or 0 for the engine's own choice")
    if provider == "cuda" and not on_gpu(provider):
        raise UsageError(
            "this onnxruntime has no CUDA provider; use --provider cpu, or install the GPU build in place of the "
            "other: pip uninstall onnxruntime && pip install 'ovs-edge[cuda]'"
        )
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    providers: list[Any] = ["CPUExecutionProvider"]
    if on_gpu(provider):
        providers.insert(0, _CUDA)
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the binding raises a dozen unrelated types
        raise BundleError(f"onnxruntime cannot load {path} ({error}); export the bundle again") from error
    if provider == "cuda" and _CUDA[0] not in session.get_providers():
        raise UsageError("onnxruntime found no usable CUDA device; check nvidia-smi, or use --provider cpu")
    return session


def on_gpu(provider: Provider) -> bool:
    """Whether a graph opened with `provider` runs on a GPU."""
    return provider != "cpu" and _CUDA[0] in require("onnxruntime", "cpu").get_available_providers()


class OnnxSession:
    """A bundle's segmenter in ONNX Runtime."""

    def __init__(
        self, bundle: Bundle, precision: str, threads: int, provider: Provider, side_by_side: bool = False
    ) -> None:
        """See `open_session`."""
        self._path = bundle.graph(precision)
        verdict = bundle.manifest.verdicts.get(precision)
        if verdict is not None and verdict.needs == "vnni" and not (has_vnni() or bundle.force):
            raise UsageError(
                f"{precision} of {bundle.path} was made for processors with VNNI; this one has none, and its sums would run "
                "over. Calibrate here or with --cpu x86, use fp32, or insist with --force"
            )
        # `int8` is TensorRT's form of INT8; a CPU has its own, `int8-cpu`.
        if precision == "int8-cpu" and provider == "auto":
            provider = "cpu"  # its kernels are the CPU's; a GPU would send every product there and back
        self.at_once = 1
        if side_by_side and not on_gpu(provider):
            # Every caller's thread works on its own frame, and the engine's are shared by all of them.
            cores = threads or usable_cores()
            self.at_once = max(1, min(cores, _MOST_AT_ONCE))
            threads = cores - self.at_once + 1
        self._session = open_graph(self._path, threads, provider, exact=precision == "int8")

    def run(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """See `Session.run`."""
        labels, confidence = self._run(["labels", "confidence"], image, text_embeddings)
        return labels, confidence

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]) -> RawOutputs:
        """See `Session.run_raw`."""
        return RawOutputs(*self._run(["labels", "confidence", "mask_logits", "class_logits"], image, text_embeddings))

    def _run(
        self, outputs: list[str], image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> list[Any]:
        feeds = {"image": image, "text_embeddings": text_embeddings}
        try:
            return list(self._session.run(outputs, feeds))
        except Exception as error:  # the binding raises a dozen unrelated types
            raise BundleError(
                f"{self._path} failed on image {list(image.shape)}, text_embeddings {list(text_embeddings.shape)} "
                f"({error}); export the bundle again"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
