"""What can run a bundle on this machine, by name, each behind the runtime's `Session` protocol."""

from __future__ import annotations

import importlib.util
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import BundleError, UsageError, require
from ...runtime.engines.bound_session import BoundOnnxSession
from ...runtime.engines.engine import EngineOptions
from ...runtime.engines.registry import of_single_images, open_session
from ...runtime.engines.session import RawOutputs, Session

if TYPE_CHECKING:
    from typing_extensions import Self

# What `ovs-run` does not offer: further execution providers of ONNX Runtime. The other backends but torch run the
# session that `ovs-run` runs.
_BOUND_PROVIDERS = {
    "ort-tensorrt": "TensorrtExecutionProvider",
    "ort-rtx": "NvTensorRTRTXExecutionProvider",
}
BACKENDS = ("cpu", "cuda", "cuda-graphs", "tensorrt", "ort-tensorrt", "ort-rtx", "torch")


def available_backends() -> tuple[str, ...]:
    """The `BACKENDS` that this machine can open."""
    ort = require("onnxruntime", "cpu")
    providers = set(ort.get_available_providers())
    found = [
        "cpu",
        *(["cuda", "cuda-graphs"] if "CUDAExecutionProvider" in providers else []),
        *(name for name, provider in _BOUND_PROVIDERS.items() if provider in providers),
    ]
    if providers & {"CUDAExecutionProvider", "TensorrtExecutionProvider"} and importlib.util.find_spec("tensorrt"):
        found.append("tensorrt")
    if importlib.util.find_spec("torch") is not None:
        found.append("torch")
    return tuple(name for name in BACKENDS if name in found)


def why_not(backend: str, precision: str) -> str | None:
    """Why a backend cannot run a precision; None if it can."""
    if backend == "torch" and precision != "fp32":
        return "torch runs FP32 only"
    if backend not in ("cpu", "torch") and precision == "int8-cpu":
        return "int8-cpu is made for CPUs"
    return None


def open_backend(bundle: Bundle, precision: str, backend: str, threads: int) -> Session:
    """The bundle's segmenter in one of `BACKENDS`. Raises `UsageError` for one that is not available."""
    if backend == "torch":
        return TorchSession(bundle, threads)
    if backend in _BOUND_PROVIDERS:
        return open_bound(bundle, precision, _BOUND_PROVIDERS[backend])
    if backend not in BACKENDS:
        raise UsageError(f"there is no backend {backend!r}; expected {', '.join(BACKENDS)}, auto or all")
    return open_session(bundle, EngineOptions(precision, threads, backend))


def open_bound(bundle: Bundle, precision: str, provider: str) -> Session:
    """The bundle's segmenter with an execution provider that `ovs-run` does not offer.

    Raises `UsageError` for a provider that is not here or finds no device, `BundleError` for a graph that it refuses.
    """
    ort = require("onnxruntime", "cuda")
    if provider not in ort.get_available_providers():
        raise UsageError(f"this onnxruntime has no {provider}; it has {', '.join(ort.get_available_providers())}")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    path = bundle.graph(precision)
    try:
        session = ort.InferenceSession(str(path), options, providers=[provider, "CPUExecutionProvider"])
    except Exception as error:  # the binding raises many unrelated types
        raise BundleError(f"onnxruntime cannot load {path} with {provider} ({error})") from error
    if provider not in session.get_providers():
        raise UsageError(f"onnxruntime has {provider}, but found no device that it can use; check nvidia-smi")
    return of_single_images(BoundOnnxSession(session, path, bundle.manifest.graph), bundle)


class TorchSession:
    """Eager torch on the CPU: the preset that the bundle was exported from, with random weights.

    A bundle holds no torch weights, and latency does not depend on them.
    """

    at_once = 1

    def __init__(self, bundle: Bundle, threads: int) -> None:
        torch = require("torch", "export")
        from ...export.graph import SegmenterGraph
        from .models import open_model

        spec, name = bundle.manifest.graph, bundle.manifest.provenance.get("preset")
        if not isinstance(name, str):
            raise UsageError(f"{bundle.path} does not say which preset it was made from; leave torch out")
        model = open_model(name)
        model.use_formulation(spec.msda)
        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        raw = spec.task == "panoptic"
        self._graph = SegmenterGraph(model, spec.masks, spec.decoder_layers, torch.int32, raw=raw).eval()

    def run(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """See `Session.run`."""
        labels, confidence = self._run(image, text_embeddings)[:2]
        return labels, confidence

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]) -> RawOutputs:
        """See `Session.run_raw`."""
        return RawOutputs(*self._run(image, text_embeddings))

    def _run(self, *arrays: npt.NDArray[Any]) -> list[Any]:
        with self._torch.inference_mode():
            return [output.numpy() for output in self._graph(*map(self._torch.from_numpy, arrays))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nothing to free."""
