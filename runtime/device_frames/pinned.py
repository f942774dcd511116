"""Page-locked memory of the CPU through the CUDA driver: the GPU copies to and from it without a step in between.

Through ctypes, since every machine with an NVIDIA driver has `libcuda`, and ONNX Runtime's users need no further package
(https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__MEM.html). Untested on a GPU.
"""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt

_PORTABLE = 1  # CU_MEMHOSTALLOC_PORTABLE: page-locked for every context of the process
_MOST_FREE = 8  # blocks that are kept for the next array of their size


class PinnedMemory:
    """Arrays in page-locked memory. A block is used again once its array is gone, so arrays may be handed out."""

    def __init__(self, driver: Any = None) -> None:
        """`driver` is the CUDA driver's library. Raises `OSError` where there is none, or no device."""
        self._driver = ctypes.CDLL("libcuda.so.1") if driver is None else driver
        self._context = ctypes.c_void_p()
        device = ctypes.c_int()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self._free: deque[tuple[int, int]] = deque()  # size and address; the oldest first
        self._lock = threading.Lock()

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array whose values are not set; in ordinary memory, which is copied more slowly, where the driver has no
        more to lock."""
        kind = np.dtype(dtype)
        count = math.prod(shape)
        size = max(1, count * kind.itemsize)
        try:
            address = self._taken(size) or self._allocated(size)
        except OSError:  # every array that is handed out and kept holds a block
            return np.empty(shape, kind)
        block = (ctypes.c_uint8 * size).from_address(address)
        # Whoever holds the array or a view of it holds the block.
        weakref.finalize(block, self._free.append, (size, address)).atexit = False
        found: npt.NDArray[Any] = np.ctypeslib.as_array(block)[: count * kind.itemsize].view(kind).reshape(shape)
        return found

    def _taken(self, size: int) -> int | None:
        """A block that is free; the oldest are given back to the driver where there are too many."""
        with self._lock:
            found = None
            kept = [self._free.popleft() for _ in range(len(self._free))]
            for index, (held, address) in enumerate(kept):
                if held == size:
                    found = address
                    del kept[index]
                    break
            for _, address in kept[:-_MOST_FREE]:
                self._within("cuMemFreeHost", ctypes.c_void_p(address))
            self._free.extendleft(reversed(kept[-_MOST_FREE:]))
            return found

    def _allocated(self, size: int) -> int:
        address = ctypes.c_void_p()
        self._within("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size), _PORTABLE)
        if address.value is None:
            raise OSError(f"the CUDA driver gave no address for {size} bytes")
        return address.value

    def _within(self, name: str, *arguments: Any) -> None:
        """Call a function in the device's primary context, which ONNX Runtime uses, too."""
        self._call("cuCtxPushCurrent_v2", self._context)
        try:
            self._call(name, *arguments)
        finally:
            self._call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code != 0:
            raise OSError(f"the CUDA driver's {name} failed with code {code}")
