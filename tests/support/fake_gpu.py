"""A GPU that is not there: `tensorrt` and `pycuda.driver` with the behaviour their documentation promises.

An engine is the path of an ONNX file, which ONNX Runtime runs from "device memory" to "device memory". Whatever touches
the device without a current context, copies a wrong size, runs an unset tensor or uses freed memory fails. A test holds
the classes against the recorded surfaces, so the fake has no method that TensorRT lacks.
"""

from __future__ import annotations

import enum
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

VERSION = "10.3.0"
GPU = "Fake Orin"


class Driver(ModuleType):
    """`pycuda.driver`."""

    def __init__(self, integrated: bool) -> None:
        super().__init__("pycuda.driver")
        self.integrated = integrated
        self.current: list[object] = []  # contexts pushed
        self.memory: dict[int, npt.NDArray[np.uint8]] = {}  # of the device, by address
        self.alive: set[str] = set()  # what was made and not yet given back
        self.uploads: list[int] = []  # bytes of every copy to the device
        self.fails: set[str] = set()  # functions that raise
        self._next = 0x1000

    def need_context(self, name: str) -> None:
        if name in self.fails:
            raise RuntimeError(f"{name} failed: out of memory")
        assert self.current, f"{name} without a current context"

    def init(self) -> None:
        if "init" in self.fails:
            raise RuntimeError("cuInit failed: no CUDA-capable device is detected")

    def Device(self, index: int) -> FakeDevice:
        assert index == 0
        return FakeDevice(self)

    def Stream(self) -> FakeStream:
        self.need_context("Stream")
        return FakeStream()

    def mem_get_info(self) -> tuple[int, int]:
        self.need_context("mem_get_info")
        return 3 * 2**30, 8 * 2**30

    def allocate(self, size: int) -> int:
        address = self._next
        self._next += size + 256
        self.memory[address] = np.full(size, 0xAB, np.uint8)
        return address

    def mem_alloc(self, size: int) -> FakeAllocation:
        self.need_context("mem_alloc")
        return FakeAllocation(self, self.allocate(size))

    def pagelocked_empty(self, shape: tuple[int, ...], dtype: Any, mem_flags: int = 0) -> npt.NDArray[Any]:
        self.need_context("pagelocked_empty")
        return np.asarray(FakeHost(self, shape, np.dtype(dtype), mem_flags))

    def memcpy_htod_async(self, dest: FakeAllocation, src: npt.NDArray[Any], stream: FakeStream) -> None:
        self.need_context("memcpy_htod_async")
        self.uploads.append(src.nbytes)
        self.memory[int(dest)][:] = src.reshape(-1).view(np.uint8)

    def memcpy_dtoh_async(self, dest: npt.NDArray[Any], src: FakeAllocation, stream: FakeStream) -> None:
        self.need_context("memcpy_dtoh_async")
        dest.reshape(-1).view(np.uint8)[:] = self.memory[int(src)]

    class device_attribute:
        INTEGRATED = "integrated"

    class host_alloc_flags:
        DEVICEMAP = 2


class FakeDevice:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def name(self) -> str:
        return GPU

    def compute_capability(self) -> tuple[int, int]:
        return 8, 7

    def get_attribute(self, attribute: str) -> int:
        return int(self._driver.integrated)

    def retain_primary_context(self) -> FakeContext:
        self._driver.alive.add("primary context")
        return FakeContext(self._driver)


class FakeContext:
    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def push(self) -> None:
        self._driver.current.append(self)

    def pop(self) -> None:
        assert self._driver.current.pop() is self

    def detach(self) -> None:
        assert not self._driver.current and not self._driver.memory, "given back while in use"
        self._driver.alive.remove("primary context")


class FakeStream:
    handle = 77
    waits = 0

    def synchronize(self) -> None:
        self.waits += 1


class FakeAllocation:
    def __init__(self, driver: Driver, address: int) -> None:
        self._driver, self._address = driver, address

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        self._driver.need_context("free")
        del self._driver.memory[self._address]


class FakeHost:
    """Pinned memory; with `flags`, the device has it under an address as well."""

    def __init__(self, driver: Driver, shape: tuple[int, ...], dtype: np.dtype[Any], flags: int) -> None:
        self._driver, self._address = driver, 0
        self._bytes = np.full(int(np.prod(shape)) * dtype.itemsize, 0xCD, np.uint8)
        if flags == Driver.host_alloc_flags.DEVICEMAP:
            self._address = driver.allocate(self._bytes.size)
            driver.memory[self._address] = self._bytes
        self.__array_interface__ = self._bytes.view(dtype).reshape(shape).__array_interface__

    def get_device_pointer(self) -> int:
        assert self._address, "not mapped"
        return self._address

    def __del__(self) -> None:
        self._driver.memory.pop(self._address, None)


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT32 = 3
    UINT8 = 5


_TYPES = {"tensor(float)": DataType.FLOAT, "tensor(int32)": DataType.INT32, "tensor(uint8)": DataType.UINT8}


class Severity(enum.Enum):
    ERROR = 1


class TensorRT(ModuleType):
    """`tensorrt`."""

    __version__ = VERSION

    def __init__(self, driver: Driver) -> None:
        super().__init__("tensorrt")
        self.driver = driver
        self.loaded: list[bytes] = []  # what reached deserialisation
        self.refuses: str | None = None  # method of the execution context that answers False
        self.profile_changes: list[int] = []
        self.creators: list[Any] = []  # of libnvinfer_plugin, each with name and plugin_version
        self.plugins_started = False
        # Of `ovs-build`, whose engines plans.py makes:
        self.built: list[Any] = []  # what was asked of the builder
        self.bad: set[str] = set()  # formulations that it gets wrong
        self.warnings: list[str] = []  # that it gives

    class ILogger:
        def log(self, severity: Severity, msg: str) -> None: ...

    class IProfiler:
        def report_layer_time(self, layer_name: str, ms: float) -> None: ...

    class LayerInformationFormat:
        JSON = "json"

    def init_libnvinfer_plugins(self, logger: ILogger, namespace: str) -> bool:
        assert isinstance(logger, self.ILogger) and namespace == ""
        self.plugins_started = True
        return True

    def get_plugin_registry(self) -> SimpleNamespace:
        return SimpleNamespace(all_creators=self.creators if self.plugins_started else [])

    def Runtime(self, logger: ILogger) -> Runtime:
        return Runtime(self, logger)


class Runtime:
    def __init__(self, trt: TensorRT, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self._trt.driver.need_context("deserialize_cuda_engine")
        self._trt.loaded.append(serialized_engine)
        try:
            described = json.loads(serialized_engine)
        except ValueError:
            self._logger.log(Severity.ERROR, "magic tag does not match")
            return None
        return ICudaEngine(self._trt, described)


class ICudaEngine:
    def __init__(self, trt: TensorRT, described: dict[str, Any]) -> None:
        self._trt = trt
        self._profiles = described["profiles"]
        self._session = ort.InferenceSession(described["onnx"], providers=["CPUExecutionProvider"])
        self._tensors = [*self._session.get_inputs(), *self._session.get_outputs()]
        self.num_io_tensors = len(self._tensors)
        self.num_optimization_profiles = len(self._profiles)

    def get_tensor_name(self, index: int) -> str:
        return str(self._tensors[index].name)

    def get_tensor_dtype(self, name: str) -> DataType:
        return next(_TYPES[tensor.type] for tensor in self._tensors if tensor.name == name)

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self._trt, self._session, self._profiles)

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector()


class EngineInspector:
    def get_engine_information(self, format: str) -> str:
        layers = [{"Name": "conv", "Outputs": [{"Name": "y", "Format/Datatype": "Half"}]}, "bare"]
        return json.dumps({"Layers": layers, "Bindings": []})


class IExecutionContext:
    profiler: Any = None

    def __init__(self, trt: TensorRT, session: Any, profiles: list[list[int]]) -> None:
        self._trt, self._session, self._profiles = trt, session, profiles
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert stream_handle == FakeStream.handle
        self._trt.profile_changes.append(profile_index)
        self._profile, self._shapes = profile_index, {}
        return self._trt.refuses != "set_optimization_profile_async"

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self._profile is not None
        if name == "text_embeddings" and list(shape[:2]) != self._profiles[self._profile]:
            return False
        self._shapes[name] = shape
        return self._trt.refuses != "set_input_shape"

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return self._trt.refuses != "set_tensor_address"

    def execute_async_v3(self, stream_handle: int) -> bool:
        driver = self._trt.driver
        driver.need_context("execute_async_v3")
        assert stream_handle == FakeStream.handle
        if self._trt.refuses == "execute_async_v3":
            return False
        feeds = {}
        for tensor in self._session.get_inputs():
            dtype = np.uint8 if tensor.type == "tensor(uint8)" else np.float32
            feeds[tensor.name] = (
                driver.memory[self._addresses[tensor.name]].view(dtype).reshape(self._shapes[tensor.name])
            )
        names = [tensor.name for tensor in self._session.get_outputs()]
        for name, value in zip(names, self._session.run(names, feeds), strict=True):
            driver.memory[self._addresses[name]][:] = value.reshape(-1).view(np.uint8)
        if self.profiler is not None:
            self.profiler.report_layer_time("conv", 2.0)
            self.profiler.report_layer_time("add", 0.5)
        return True


def install(monkeypatch: pytest.MonkeyPatch, integrated: bool = False) -> TensorRT:
    """Put both modules where `import` finds them."""
    driver = Driver(integrated)
    trt = TensorRT(driver)
    package = ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    return trt


def engine_bytes(onnx_file: Path, profiles: list[tuple[int, int]]) -> bytes:
    """What the fake deserialises."""
    return json.dumps({"onnx": str(onnx_file), "profiles": profiles}).encode()


CLASSES: dict[str, type | Callable[..., Any]] = {
    "Runtime": Runtime,
    "ICudaEngine": ICudaEngine,
    "IExecutionContext": IExecutionContext,
    "EngineInspector": EngineInspector,
    "ILogger": TensorRT.ILogger,
    "IProfiler": TensorRT.IProfiler,
}
