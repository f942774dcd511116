"""TensorRT's Python API, as far as it is used: the module `tensorrt`, 10 and 11, or `tensorrt_rtx`, which shares it.

Nothing but this module touches the modules themselves; tensorrt_protocols.py lists what may be called on their objects.

Networks are strongly typed: the engine computes in the types that the graph states. TensorRT 8 is left out, with its
builder flags for types and its INT8 calibrator: there the engine chooses types by itself, and what it chose cannot be
compared with a graph. JetPack 6 and 7 bring 10 and 11.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ...bundle.errors import MissingExtraError
from .tensorrt_protocols import (
    Builder,
    IBuilderConfig,
    ICudaEngine,
    IExecutionContext,
    IGridSampleLayer,
    ILayer,
    INetworkDefinition,
    OnnxParser,
    Runtime,
)

MODULES = ("tensorrt", "tensorrt_rtx")  # in the order they are tried
MSDA_PLUGIN = "MultiscaleDeformableAttnPlugin_TRT"  # deformable attention's own kernel

# TensorRT's type -> numpy's name
_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


class Log:
    """What TensorRT said: errors are kept, for the one line a user sees."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.warnings: list[str] = []

    def take(self, severity: str, message: str) -> None:
        """One message; `severity` as TensorRT spells it."""
        if severity in ("INTERNAL_ERROR", "ERROR"):
            self.errors.append(message)
        elif severity == "WARNING":
            self.warnings.append(message)

    @property
    def reason(self) -> str:
        """The first error, which the others follow from."""
        return " ".join(self.errors[0].split())[:400] if self.errors else "TensorRT gave no reason"


class TensorRT:
    """One of the modules, and all that is asked of it by name."""

    def __init__(self, trt: Any) -> None:
        self._trt = trt
        self.module: str = trt.__name__
        self.version: str = trt.__version__
        self._heard_by: Any = None  # logger of the plugins' library

    def logger(self, log: Log) -> Any:
        """A logger that writes to `log`; it must outlive what is made with it."""
        trt = self._trt
        base: Any = trt.ILogger

        class Logger(base):  # type: ignore[misc]
            def __init__(self) -> None:
                base.__init__(self)  # pybind11 wants it by name

            def log(self, severity: Any, msg: str) -> None:
                log.take(severity.name, msg)

        return Logger()

    def builder(self, logger: Any) -> Builder:
        """Raises what the binding raises where no GPU is found and one is needed."""
        trt = self._trt
        builder: Builder = trt.Builder(logger)
        return builder

    def network(self, builder: Builder) -> INetworkDefinition:
        """An empty, strongly typed network."""
        trt = self._trt
        # A version without the flag knows no other networks.
        flags = trt.NetworkDefinitionCreationFlag.__members__
        return builder.create_network(1 << int(flags["STRONGLY_TYPED"]) if "STRONGLY_TYPED" in flags else 0)

    def parser(self, network: INetworkDefinition, logger: Any) -> OnnxParser:
        """A parser that fills `network`."""
        trt = self._trt
        parser: OnnxParser = trt.OnnxParser(network, logger)
        return parser

    def configure(self, config: IBuilderConfig, level: int, workspace: int | None) -> None:
        """`level` 0..5 of optimisation; `workspace` in bytes, None leaves the engine's own limit."""
        trt = self._trt
        config.builder_optimization_level = level
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        # TF32 has FP16's mantissa: an engine of an FP32 graph would compute something else than the graph.
        config.clear_flag(trt.BuilderFlag.TF32)
        if workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)

    def watch(self, config: IBuilderConfig, step: Callable[[str, int, int], bool]) -> None:
        """Call `step(phase, done, of)` as the build goes on; when it returns False, the build ends."""
        trt = self._trt
        base: Any = trt.IProgressMonitor

        class Monitor(base):  # type: ignore[misc]
            def __init__(self) -> None:
                base.__init__(self)
                self.steps: dict[str, int] = {}

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                self.steps[phase_name] = num_steps

            def step_complete(self, phase_name: str, step_number: int) -> bool:
                return step(phase_name, step_number + 1, self.steps.get(phase_name, 0))

            def phase_finish(self, phase_name: str) -> None:
                self.steps.pop(phase_name, None)

        config.progress_monitor = Monitor()

    def runtime(self, logger: Any) -> Runtime:
        """What deserialises engines; it must outlive them."""
        trt = self._trt
        runtime: Runtime = trt.Runtime(logger)
        return runtime

    def time_layers(self, context: IExecutionContext, report: Callable[[str, float], None]) -> None:
        """Call `report(layer, milliseconds)` for every layer of every following run."""
        trt = self._trt
        base: Any = trt.IProfiler

        class Profiler(base):  # type: ignore[misc]
            def __init__(self) -> None:
                base.__init__(self)

            def report_layer_time(self, layer_name: str, ms: float) -> None:
                report(layer_name, ms)

        context.profiler = Profiler()

    def engine_json(self, engine: ICudaEngine) -> str:
        """The engine's layers, as the inspector writes them."""
        trt = self._trt
        return engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)

    def plugin_version(self, name: str, logger: Any) -> str | None:
        """The newest version of a plugin of libnvinfer_plugin; None where there is none.

        It registers the library's plugins, without which a graph or an engine that holds one cannot be read. Names are
        looked up, and not taken for granted: where one is missing, there are no plugins.
        """
        start, registry = (
            getattr(self._trt, part, None) for part in ("init_libnvinfer_plugins", "get_plugin_registry")
        )
        if start is None or registry is None or not start(logger, ""):
            return None
        creators = getattr(registry(), "all_creators", ())
        return max((str(creator.plugin_version) for creator in creators if creator.name == name), default=None)

    def samples_linearly(self, layer: ILayer) -> bool | None:
        """Whether a GridSample layer interpolates; None for any other layer."""
        trt = self._trt
        if layer.type != trt.LayerType.GRID_SAMPLE:
            return None
        layer.__class__ = trt.IGridSampleLayer  # as TensorRT's guide has it: layers come as their base class
        sampling: IGridSampleLayer = layer  # type: ignore[assignment]
        return bool(sampling.interpolation_mode == trt.InterpolationMode.LINEAR)


def kind(layer: ILayer) -> str:
    """`CONVOLUTION`, `GRID_SAMPLE`, …"""
    return str(layer.type.name)


def type_name(dtype: Any) -> str:
    """numpy's name of a TensorRT type: `float16`, `int8`."""
    name = str(dtype.name)
    return _TYPES.get(name, name.lower())


def load(module: str | None = None) -> TensorRT:
    """`module`, or the first that is installed. Raises `MissingExtraError`."""
    reasons = []
    for name in MODULES if module is None else (module,):
        found = _imported(name)
        if isinstance(found, TensorRT):
            return found
        reasons.append(f"{name}: {found}")
    raise MissingExtraError(
        f"no TensorRT here ({'; '.join(reasons)}); on a Jetson it comes with JetPack, and a virtual environment needs "
        "--system-site-packages; elsewhere from NVIDIA, or for RTX cards: pip install 'ovs-edge[rtx]'"
    )


def _imported(name: str) -> TensorRT | Exception:
    try:
        return TensorRT(importlib.import_module(name))
    except (ImportError, OSError) as error:
        return error
