"""Builds an engine from an ONNX file with `tensorrt` 10 or 11, or `tensorrt_rtx`; runs in a child process.

Written against the documented interfaces. The tests run it with `tensorrt_rtx`, which needs no GPU; with `tensorrt` it
is untested on a GPU.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...bundle.errors import MissingExtraError, PlanError
from ...bundle.files import replacing
from ...runtime.engines.cuda import Cuda
from ...runtime.engines.plan import Profile
from ...runtime.engines.tensorrt_api import MSDA_PLUGIN, Log, TensorRT, load
from ...runtime.engines.tensorrt_protocols import Builder, IBuilderConfig, INetworkDefinition
from .network import EngineLayer, check_layers, read_layers, stated_types

Step = Callable[[str, int, int], bool]  # phase, done, of -> whether to go on


@dataclass(frozen=True)
class BuildRequest:
    """One build, fully decided; it is sent to another process."""

    graph: Path  # ONNX file
    engine: Path  # where the engine goes
    module: str  # "tensorrt" or "tensorrt_rtx"
    profiles: tuple[Profile, ...]
    dim: int  # D, length of a text vector
    level: int  # of optimisation, 0..5
    workspace: int | None  # bytes of GPU memory for scratch; None: half of what is free
    timing_cache: Path | None  # read if it is there, written afterwards; None for tensorrt_rtx, which times nothing
    plugins: bool = False  # whether the graph holds nodes of libnvinfer_plugin


@dataclass(frozen=True)
class BuiltEngine:
    """Result of a build."""

    sha256: str  # of the engine
    size: int  # of the engine, bytes
    seconds: float
    peak_mib: float  # most resident memory of the building process
    layers: tuple[EngineLayer, ...]  # of the network, before the engine fused them
    warnings: tuple[str, ...] = ()  # what went wrong besides


def build(request: BuildRequest, step: Step) -> BuiltEngine:
    """Build and write the engine. Raises `PlanError`, `MissingExtraError`."""
    start = time.monotonic()
    trt, log = load(request.module), Log()
    logger = trt.logger(log)
    step("starting TensorRT", 0, 0)
    try:
        builder = trt.builder(logger)
    except Exception as error:  # the binding's own, where CUDA does not start
        raise PlanError(f"{trt.module} {trt.version} does not start ({error}; {log.reason}); it needs a GPU") from error
    if request.plugins:
        trt.plugin_version(MSDA_PLUGIN, logger)
    network = _parse(trt, builder, logger, log, request.graph)
    layers = read_layers(trt, network)
    check_layers(layers, stated_types(request.graph))
    config = builder.create_builder_config()
    trt.configure(config, request.level, request.workspace or _half_of_free())
    _add_profiles(builder, config, request)
    if request.timing_cache is not None:
        _read_timing_cache(config, request.timing_cache)
    trt.watch(config, step)
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise PlanError(
            f"{trt.module} {trt.version} cannot build {request.graph.name} ({log.reason}); try --level 2, fewer "
            "--profiles, or --msda gather"
        )
    view = memoryview(data)
    request.engine.write_bytes(view)
    warnings = () if request.timing_cache is None else _write_timing_cache(config, request.timing_cache)
    return BuiltEngine(
        hashlib.sha256(view).hexdigest(), view.nbytes, time.monotonic() - start, _peak_mib(), layers, warnings
    )


def _parse(trt: TensorRT, builder: Builder, logger: object, log: Log, path: Path) -> INetworkDefinition:
    network = trt.network(builder)
    parser = trt.parser(network, logger)
    if not parser.parse_from_file(str(path)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise PlanError(
            f"{trt.module} {trt.version} cannot read {path.name} ({(reasons or [log.reason])[0][:300]}); try another "
            "precision, or --msda gather"
        )
    return network


def _add_profiles(builder: Builder, config: IBuilderConfig, request: BuildRequest) -> None:
    for profile in request.profiles:
        made = builder.create_optimization_profile()
        # One size, not a range: the session pads to it, and kernels are chosen for it.
        shape = (profile.classes, profile.names, request.dim)
        made.set_shape("text_embeddings", shape, shape, shape)
        if config.add_optimization_profile(made) < 0:
            raise PlanError(f"TensorRT refuses the profile {profile}; give other --profiles")


def _read_timing_cache(config: IBuilderConfig, path: Path) -> None:
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    # A cache of another GPU or version is ignored by TensorRT, which then starts an empty one.
    if not config.set_timing_cache(config.create_timing_cache(data), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _write_timing_cache(config: IBuilderConfig, path: Path) -> tuple[str, ...]:
    """Save the timing cache; returns a warning where that fails, since the engine is built all the same."""
    cache = config.get_timing_cache()
    if cache is None:
        return ()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, str(id(cache))) as work:
            work.write_bytes(memoryview(cache.serialize()))
    except OSError as error:
        return (f"cannot keep the timings in {path} ({error.strerror}); the next build measures them again",)
    return ()


def _half_of_free() -> int | None:
    """Half of the GPU's free memory; the other half is for the engine and for other programs."""
    try:
        cuda = Cuda()
    except (MissingExtraError, PlanError):
        return None
    with cuda:
        free = cuda.free_bytes()
    cuda.close()
    return free // 2


def _peak_mib() -> float:
    # Linux counts in KiB, macOS in bytes.
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale, 1)
