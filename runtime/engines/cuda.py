"""The CUDA driver through pycuda: one device, its primary context, and memory that the CPU and the GPU share.

The primary context is the one that TensorRT and other libraries of the process use; `pycuda.autoinit` would make one of
its own. Nothing but this module touches pycuda. Untested on a GPU.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import MissingExtraError, PlanError

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Gpu:
    """A device, by what decides whether a plan fits it."""

    name: str  # "NVIDIA GeForce RTX 4090", "Orin"
    capability: str  # compute capability, "8.7"
    integrated: bool  # shares the CPU's memory, as on a Jetson


def _driver() -> Any:
    try:
        return importlib.import_module("pycuda.driver")
    except (ImportError, OSError) as error:
        raise MissingExtraError(
            f"cannot import pycuda.driver ({error}); a GPU is used through it: pip install 'ovs-edge[tensorrt]', "
            "which compiles it and needs the CUDA toolkit (on a Jetson: export PATH=/usr/local/cuda/bin:$PATH before)"
        ) from error


def find_gpu() -> Gpu:
    """The first GPU. Makes no context. Raises `MissingExtraError` without pycuda and `PlanError` without a GPU."""
    cuda = _driver()
    return _describe(cuda, _device(cuda))


def _device(cuda: Any) -> Any:
    try:
        cuda.init()
        return cuda.Device(0)
    except Exception as error:  # pycuda's own classes are known once it is imported only
        raise PlanError(f"no usable GPU ({error}); check nvidia-smi, or use --provider cpu") from error


def _describe(cuda: Any, device: Any) -> Gpu:
    major, minor = device.compute_capability()
    integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
    return Gpu(str(device.name()), f"{major}.{minor}", integrated)


class Cuda:
    """The first GPU's primary context, current between `with` and its end. One stream."""

    def __init__(self) -> None:
        """Raises as `find_gpu`."""
        self._cuda = _driver()
        device = _device(self._cuda)
        self.gpu = _describe(self._cuda, device)
        self._context = device.retain_primary_context()
        self._stream: Any = None
        self.closed = False

    def __enter__(self) -> Self:
        self._context.push()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.pop()

    @property
    def stream(self) -> Any:
        """The stream; it is made on first use, in the current context."""
        if self._stream is None:
            self._stream = self._cuda.Stream()
        return self._stream

    def free_bytes(self) -> int:
        """Memory of the GPU that nobody uses; the context must be current."""
        free, _ = self._cuda.mem_get_info()
        return int(free)

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """Zeros in memory both sides can reach; the context must be current."""
        return Buffer(self._cuda, self.stream, shape, dtype, shared=self.gpu.integrated)

    def close(self) -> None:
        """Give the context back; it must not be current, and buffers must be freed before."""
        self.closed = True
        self._stream = None
        self._context.detach()


class Buffer:
    """Pinned memory of the CPU, and the GPU's address of the same, or of a copy.

    Where CPU and GPU share their memory, both sides see the same bytes, and `upload` and `download` have nothing to do.
    """

    def __init__(self, cuda: Any, stream: Any, shape: tuple[int, ...], dtype: str, *, shared: bool) -> None:
        self._cuda, self._stream = cuda, stream
        flags = cuda.host_alloc_flags.DEVICEMAP if shared else 0
        self.array: npt.NDArray[Any] = cuda.pagelocked_empty(shape, np.dtype(dtype), mem_flags=flags)
        self.array[...] = 0
        self._copy: Any = None
        if shared:
            allocation: Any = self.array.base
            self.address = int(allocation.get_device_pointer())
        else:
            self._copy = cuda.mem_alloc(max(1, self.array.nbytes))
            self.address = int(self._copy)

    def upload(self) -> None:
        """Queue the copy to the GPU."""
        if self._copy is not None:
            self._cuda.memcpy_htod_async(self._copy, self.array, self._stream)

    def download(self) -> None:
        """Queue the copy to the CPU; it is there when the stream has been synchronised."""
        if self._copy is not None:
            self._cuda.memcpy_dtoh_async(self.array, self._copy, self._stream)

    def free(self) -> None:
        """Give both back; the context must be current."""
        if self._copy is not None:
            self._copy.free()
        # A view that someone still holds must not point to memory that is gone: pinned memory goes with its array.
        self.array = np.empty(0, self.array.dtype)
