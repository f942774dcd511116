"""Every method and attribute that is called on TensorRT's objects, under the names of its classes.

So the type checker refuses any other, and a test looks each of them up in the recorded surfaces of the versions.
"""

from __future__ import annotations

from typing import Any, Protocol


class IHostMemory(Protocol):
    """A serialised engine or timing cache."""

    def __buffer__(self, flags: int, /) -> memoryview:
        """The bytes."""
        ...


class ITensor(Protocol):
    """A tensor of a network."""

    name: str
    dtype: Any
    shape: Any


class ILayer(Protocol):
    """A layer of a network."""

    name: str
    type: Any
    num_inputs: int
    num_outputs: int

    def get_input(self, index: int) -> ITensor | None:
        """Input `index`."""
        ...

    def get_output(self, index: int) -> ITensor:
        """Output `index`."""
        ...


class IGridSampleLayer(ILayer, Protocol):
    """Samples a map at given points; the export needs it bilinear."""

    interpolation_mode: Any


class INetworkDefinition(Protocol):
    """A parsed graph."""

    num_layers: int
    num_inputs: int
    num_outputs: int

    def get_layer(self, index: int) -> ILayer:
        """Layer `index`."""
        ...

    def get_input(self, index: int) -> ITensor:
        """Input `index`."""
        ...

    def get_output(self, index: int) -> ITensor:
        """Output `index`."""
        ...


class ParserError(Protocol):
    """One error of the parser."""

    def desc(self) -> str:
        """The message."""
        ...


class OnnxParser(Protocol):
    """Reads ONNX into a network."""

    num_errors: int

    def parse_from_file(self, path: str) -> bool:
        """Read the file; False where the parser has errors."""
        ...

    def get_error(self, index: int) -> ParserError:
        """Error `index`."""
        ...


class IOptimizationProfile(Protocol):
    """One range of shapes the engine is made for."""

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        """The least, the optimal and the largest shape of an input."""
        ...


class ITimingCache(Protocol):
    """Timings that earlier builds measured."""

    def serialize(self) -> IHostMemory:
        """The cache as bytes."""
        ...


class IBuilderConfig(Protocol):
    """Options of a build."""

    builder_optimization_level: int
    profiling_verbosity: Any
    progress_monitor: Any

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        """Add a range of shapes; its index."""
        ...

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        """Bytes that a kind of memory may take."""
        ...

    def clear_flag(self, flag: Any) -> None:
        """Switch a flag off."""
        ...

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        """A cache from earlier bytes, or an empty one."""
        ...

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: Any) -> bool:
        """Use a cache."""
        ...

    def get_timing_cache(self) -> ITimingCache | None:
        """The cache in use."""
        ...


class Builder(Protocol):
    """Makes networks and configurations, and builds engines."""

    def create_network(self, flags: int) -> INetworkDefinition:
        """An empty network."""
        ...

    def create_builder_config(self) -> IBuilderConfig:
        """A configuration with defaults."""
        ...

    def create_optimization_profile(self) -> IOptimizationProfile:
        """An empty range of shapes."""
        ...

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory | None:
        """The engine as bytes; None where the build failed."""
        ...


class IExecutionContext(Protocol):
    """Runs an engine."""

    profiler: Any

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        """Switch to a profile, in a stream."""
        ...

    def set_input_shape(self, name: str, shape: Any) -> bool:
        """The shape of an input for the next run."""
        ...

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Where an input or output lies on the GPU."""
        ...

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Run, in a stream."""
        ...


class EngineInspector(Protocol):
    """Describes an engine's layers."""

    def get_engine_information(self, format: Any) -> str:
        """The engine's layers as text."""
        ...


class ICudaEngine(Protocol):
    """A deserialised engine."""

    num_io_tensors: int
    num_optimization_profiles: int

    def get_tensor_name(self, index: int) -> str:
        """Name of tensor `index`."""
        ...

    def get_tensor_dtype(self, name: str) -> Any:
        """Type of a tensor."""
        ...

    def create_execution_context(self) -> IExecutionContext | None:
        """What runs the engine; None where memory is short."""
        ...

    def create_engine_inspector(self) -> EngineInspector:
        """What describes the engine."""
        ...


class Runtime(Protocol):
    """Loads engines."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        """The engine of some bytes; None where they do not fit."""
        ...
