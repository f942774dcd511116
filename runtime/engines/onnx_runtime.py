"""ONNX Runtime: the CPU, or an NVIDIA GPU where its CUDA build is installed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bundle.bundle import Bundle
from ...bundle.errors import BundleError, UsageError, note_once, require
from ...bundle.processor import usable_cores, usable_processors
from .bound_session import BoundOnnxSession
from .engine import Engine, EngineOptions, Finding, Obstacle, fastest_of, import_in_child
from .session import RawOutputs, Session

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..device_frames.resizer import DeviceFrames, Empty

_ERRORS_ONLY = 3  # ONNX Runtime's log severity
_FATAL_ONLY = 4
_MOST_AT_ONCE = 4  # frames side by side; each has activations of its own
_CUDA_PROVIDER = "CUDAExecutionProvider"
# By default FP32 products are rounded to 10 bits on Ampere and newer: labels would differ.
EXACT_PRODUCTS = {"use_tf32": "0"}
_CUDA_OPTIONS = {"arena_extend_strategy": "kSameAsRequested", **EXACT_PRODUCTS}  # memory by need, not by powers of two
_GRAPHS = "cuda-graphs"
_GPU_BUILD = "pip uninstall onnxruntime && pip install 'ovs-edge[cuda]'"


def open_graph(
    path: Path,
    threads: int,
    provider: str = "cpu",
    *,
    arena: bool = True,
    exact: bool = False,
    graphs: bool = False,
    contents: bytes | None = None,
) -> Any:
    """An `onnxruntime.InferenceSession` of the file at `path`, on the provider "cpu" or "cuda", there also with CUDA graphs.

    `arena` False is for a graph that runs now and then: after each run, memory returns to the system, and threads stop at
    once instead of spinning for a while, which would take processors from the graph of the frames. `exact` computes INT8
    layers on the rounded values in FP32: without VNNI, x86 adds in 16 bits, where full-range weights run over.
    `contents` stand in place of the file's.
    """
    ort = require("onnxruntime", "cpu")
    if provider == "cuda" and (problem := cuda_obstacle()) is not None:
        raise UsageError(f"{problem.text}; use --provider cpu")
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = capped(threads)
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = arena
    if not arena:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if exact:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    providers: list[Any] = []
    if provider == "cuda":
        providers = [(_CUDA_PROVIDER, {**_CUDA_OPTIONS, **({"enable_cuda_graph": "1"} if graphs else {})})]
    try:
        model = str(path) if contents is None else contents
        session = ort.InferenceSession(model, options, providers=[*providers, "CPUExecutionProvider"])
    except Exception as error:  # the binding raises a dozen unrelated types
        raise BundleError(f"onnxruntime cannot load {path} ({error}); export the bundle again") from error
    if provider == "cuda" and _CUDA_PROVIDER not in session.get_providers():
        raise UsageError("onnxruntime found no usable CUDA device; check nvidia-smi, or use --provider cpu")
    return session


def capped(threads: int) -> int:
    """`threads`, at most as many as there are processors to run them: more would only wait for each other.

    Raises `UsageError` for a negative number.
    """
    if threads < 0:
        raise UsageError(f"{threads} threads were asked for, expected 1 or more, or 0 for one per core")
    most = len(usable_processors())
    if threads > most:
        note_once(f"{threads} threads were asked for, this process may use {most} processors; using {most}")
    return min(threads, most)


@cache
def cuda_obstacle() -> Obstacle | None:
    """Why ONNX Runtime cannot use a GPU here, found out once; None where it can.

    The build lists its CUDA provider even where CUDA's libraries are missing; so the provider's library is loaded.
    """
    ort = require("onnxruntime", "cpu")
    if _CUDA_PROVIDER not in ort.get_available_providers():
        return Obstacle(f"this onnxruntime has no CUDA provider (the GPU build has it: {_GPU_BUILD})")
    folder = Path(str(ort.__file__)).parent / "capi"
    library = folder / "libonnxruntime_providers_cuda.so"
    if not library.is_file():  # another system, or a build that is put together otherwise
        return None
    try:
        ctypes.CDLL(str(folder / "libonnxruntime_providers_shared.so"), ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return Obstacle(f"no usable CUDA ({error})", unexpected=True)
    return None


class OnnxSession:
    """A bundle's segmenter in ONNX Runtime."""

    def __init__(self, bundle: Bundle, options: EngineOptions) -> None:
        """`options.provider` is "cpu"; on a GPU, `BoundOnnxSession` runs graphs of one image."""
        precision, threads, provider = options.precision, capped(options.threads), options.provider
        self._path = bundle.graph(precision)
        if not (bundle.fits_processor(precision) or bundle.force):
            raise UsageError(
                f"{precision} of {bundle.path} was made for processors with VNNI; this one has none, and its sums would "
                "run over. Calibrate here or with --cpu x86, use fp32, or insist with --force"
            )
        self.at_once = 1
        if options.side_by_side and provider == "cpu" and bundle.manifest.batch == 1:
            # Every caller's thread works on its own frame, and the engine's are shared by all of them.
            cores = threads or usable_cores()
            self.at_once = max(1, min(cores, _MOST_AT_ONCE))
            threads = cores - self.at_once + 1
        # `int8` is TensorRT's form of INT8; a CPU has its own, `int8-cpu`.
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
        if self._session is None:
            raise UsageError("the segmenter is closed; open another with Segmenter.load")
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


def _open_cuda(bundle: Bundle, options: EngineOptions) -> Session:
    if bundle.manifest.batch > 1:  # its images are gathered on the CPU
        return OnnxSession(bundle, replace(options, provider="cuda", side_by_side=False))
    path = bundle.graph(options.precision)
    graphs = options.provider == _GRAPHS
    session = open_graph(path, options.threads, "cuda", exact=options.precision == "int8", graphs=graphs)
    return BoundOnnxSession(session, path, bundle.manifest.graph, graphs=graphs, frames=cuda_frames())


def cuda_frames() -> DeviceFrames:
    """The resizes around the network on a GPU, with page-locked memory where the driver gives it."""
    from ..device_frames.pinned import PinnedMemory  # not above: whoever runs on a CPU needs neither
    from ..device_frames.resizer import DeviceFrames

    empty: Empty = np.empty
    try:
        empty = PinnedMemory().empty
    except (OSError, AttributeError) as error:
        note_once(f"copies to the GPU go through ordinary memory ({error})")
    return DeviceFrames(lambda path: open_graph(path, 1, "cuda"), "cuda", empty)


def _cuda_suits(options: EngineOptions) -> Obstacle | None:
    if options.precision == "int8-cpu":
        return Obstacle("int8-cpu is for CPUs; a GPU would send every product there and back")
    return cuda_obstacle()


def _examine_cpu() -> Iterator[Finding]:
    listed = "print(onnxruntime.__version__, *onnxruntime.get_available_providers())"
    imported, found = import_in_child("onnxruntime", listed)
    if imported:
        release, *providers = found.splitlines()[-1].split()
        yield Finding("engines", "ok", f"onnxruntime {release}: {' '.join(providers)}")
    else:
        yield Finding("engines", "missing", found, "pip install 'ovs-edge[cpu]', or 'ovs-edge[cuda]' for an NVIDIA GPU")
    if all(map(_installed, ("onnxruntime", "onnxruntime-gpu"))):
        remedy = "pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them"
        yield Finding("engines", "note", "onnxruntime and onnxruntime-gpu overwrite each other", remedy)


def _examine_cuda() -> Iterator[Finding]:
    probe = f"found = {__name__}.cuda_obstacle()\nprint(found.text if found and found.unexpected else '')"
    imported, found = import_in_child(__name__, probe)
    if imported and found:
        remedy = "install the CUDA and cuDNN libraries that this onnxruntime-gpu was built for"
        yield Finding("engines", "note", found, remedy)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


CPU = Engine("cpu", OnnxSession, lambda options: None, _examine_cpu, fastest_of("int8-cpu"))
CUDA = Engine("cuda", _open_cuda, _cuda_suits, _examine_cuda, fastest_of("fp16"))
CUDA_GRAPHS = Engine(_GRAPHS, _open_cuda, fastest=fastest_of("fp16"))
