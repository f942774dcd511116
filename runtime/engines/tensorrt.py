"""TensorRT: runs a plan on an NVIDIA GPU. Written against the documented interfaces and untested on a GPU.

The classes are padded with zero rows to one of the plan's profiles: a shape that the engine has not seen stalls it, and
a zero row is no class. Text vectors go to the GPU when they change, and not with every frame.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...bundle.errors import PlanError, UsageError
from ...bundle.manifest import TensorSpec
from .cuda import Buffer, Cuda
from .plan import Plan, Profile, Target
from .session import RawOutputs
from .tensorrt_api import MSDA_PLUGIN, Log, load, type_name
from .tensorrt_protocols import ICudaEngine, IExecutionContext

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..device_frames.resizer import DeviceFrames

_TEXT, _IMAGE = "text_embeddings", "image"


class TensorRTSession:
    """A plan's engine with its buffers. One call at a time; from any thread."""

    at_once = 1

    def __init__(self, plan: Plan) -> None:
        """Raises `MissingExtraError` without TensorRT or pycuda, `PlanError` where the plan does not fit or load."""
        self.frames: DeviceFrames | None = None  # resizes around the network on the GPU, where something has them
        self._plan = plan
        self._manifest = plan.sidecar.manifest
        self._profiles = plan.sidecar.profiles
        self._trt = load(plan.sidecar.target.module)
        self._log = Log()
        self._cuda = Cuda()
        self._buffers: dict[str, Buffer] = {}
        self._active: int | None = None  # index of the profile in use
        self._vectors: npt.NDArray[np.float32] | None = (
            None  # what the GPU holds; kept, so that its identity is its own
        )
        with ExitStack() as undo:
            undo.callback(self.close)
            gpu = self._cuda.gpu
            data = plan.engine(Target.here(self._trt.module, self._trt.version, gpu.name, gpu.capability))
            with self._cuda:
                self._load(data)
            undo.pop_all()

    def _load(self, data: bytes) -> None:
        self._logger = self._trt.logger(self._log)
        if self._plan.sidecar.formulation == "plugin" and self._trt.plugin_version(MSDA_PLUGIN, self._logger) is None:
            raise PlanError(
                f"the plan {self._plan.path} needs {MSDA_PLUGIN}, which {self._trt.module} {self._trt.version} here "
                "does not have; install libnvinfer_plugin, or build it again with --msda gridsample or gather"
            )
        self._runtime = self._trt.runtime(self._logger)
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise self._error("does not load")
        self._engine: ICudaEngine | None = engine
        self._check(engine)
        context = engine.create_execution_context()
        if context is None:
            raise self._error("gets no memory to run in")
        self._context: IExecutionContext | None = context

    def _check(self, engine: ICudaEngine) -> None:
        """The engine's tensors and profiles are those of the sidecar."""
        graph = self._manifest.graph
        expected = {spec.name: spec.dtype for spec in (*graph.inputs, *graph.outputs)}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        found = {name: type_name(engine.get_tensor_dtype(name)) for name in names}
        if found != expected or engine.num_optimization_profiles != len(self._profiles):
            raise PlanError(
                f"the engine of {self._plan.path} has {found} and {engine.num_optimization_profiles} profiles, its "
                f"sidecar says {expected} and {len(self._profiles)}; build it again with ovs-build"
            )

    def run(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
        """See `Session.run`. Raises `UsageError` for more classes or names than the plan was built for."""
        labels, confidence = self._run(["labels", "confidence"], image, text_embeddings)
        return labels, confidence

    def run_raw(self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32]) -> RawOutputs:
        """See `Session.run_raw`."""
        names = ["labels", "confidence", "mask_logits", "class_logits"]
        labels, confidence, masks, classes = self._run(names, image, text_embeddings)
        # The last column is "no object", and stands behind the padding.
        asked = np.concatenate((classes[..., : len(text_embeddings)], classes[..., -1:]), -1)
        return RawOutputs(labels, confidence, masks, asked)

    def layers(self) -> list[tuple[str, str]]:
        """Name and output types of every layer of the engine, after fusion."""
        if self._engine is None:
            raise self._closed()
        with self._cuda:
            found = json.loads(self._trt.engine_json(self._engine)).get("Layers", [])
        return [_name_and_types(layer) for layer in found]

    def layer_times(
        self, image: npt.NDArray[np.uint8], text_embeddings: npt.NDArray[np.float32], runs: int = 20
    ) -> dict[str, float]:
        """Mean milliseconds of every layer. The session stays slow afterwards: each run waits for every layer."""
        if self._context is None:
            raise self._closed()
        self.run(image, text_embeddings)
        times: defaultdict[str, float] = defaultdict(float)

        def add(name: str, ms: float) -> None:
            times[name] += ms

        self._trt.time_layers(self._context, add)
        for _ in range(runs):
            self.run(image, text_embeddings)
        return {name: total / runs for name, total in times.items()}

    def _run(
        self, outputs: list[str], image: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float32]
    ) -> list[npt.NDArray[Any]]:
        if self._context is None:
            raise self._closed()
        expected = self._manifest.input_size
        if image.dtype != np.uint8 or image.shape != (1, *expected, 3):
            raise UsageError(f"the image is {image.dtype} {list(image.shape)}, expected uint8 {[1, *expected, 3]}")
        with self._cuda, self._told():
            self._choose(vectors, self._context)
            self._buffers[_IMAGE].array[...] = image
            self._buffers[_IMAGE].upload()
            if not self._context.execute_async_v3(self._cuda.stream.handle):
                raise self._error("failed")
            for name in outputs:
                self._buffers[name].download()
            self._cuda.stream.synchronize()
            # Copies: the next frame overwrites the buffers while this one's labels are still being drawn.
            return [self._buffers[name].array.copy() for name in outputs]

    def _choose(self, vectors: npt.NDArray[np.float32], context: IExecutionContext) -> None:
        """Have the profile for these text vectors active, and the vectors on the GPU."""
        if vectors is self._vectors:
            return
        index = self._fitting(vectors)
        # Cleared first: a change that fails half-way must not pass for done.
        self._vectors = None
        if index != self._active:
            self._activate(index, context)
        array = self._buffers[_TEXT].array
        array[...] = 0
        array[: vectors.shape[0], : vectors.shape[1]] = vectors
        self._buffers[_TEXT].upload()
        self._vectors = vectors

    def _fitting(self, vectors: npt.NDArray[np.float32]) -> int:
        """Index of the smallest profile that holds the vectors."""
        dim = self._manifest.text.dim
        if vectors.ndim != 3 or vectors.shape[2] != dim or vectors.dtype != np.float32 or not vectors.size:
            raise UsageError(f"text vectors are {vectors.dtype} {list(vectors.shape)}, expected float32 (K, S, {dim})")
        classes, names = vectors.shape[:2]
        holding = [index for index, profile in enumerate(self._profiles) if profile.holds(classes, names)]
        if not holding:
            sizes = ", ".join(map(str, self._profiles))
            raise UsageError(
                f"{classes} classes of up to {names} names were asked for, the plan holds {sizes} (classes x names); "
                f"ask for fewer, or build it with: ovs-build --profiles {classes}x{names}"
            )
        return min(holding, key=lambda index: self._profiles[index].classes * self._profiles[index].names)

    def _activate(self, index: int, context: IExecutionContext) -> None:
        self._active = None
        self._free()
        profile, stream = self._profiles[index], self._cuda.stream
        sound = context.set_optimization_profile_async(index, stream.handle)
        stream.synchronize()
        graph = self._manifest.graph
        for spec in (*graph.inputs, *graph.outputs):
            shape = _shape(spec, profile)
            buffer = self._buffers[spec.name] = self._cuda.buffer(shape, spec.dtype)
            sound = sound and context.set_tensor_address(spec.name, buffer.address)
            if spec in graph.inputs:
                sound = sound and context.set_input_shape(spec.name, shape)
        if not sound:
            raise self._error(f"refuses the profile {profile}")
        self._active = index

    def _closed(self) -> PlanError:
        return PlanError(f"the session of {self._plan.path} is closed; open another")

    def _error(self, what: str) -> PlanError:
        return PlanError(f"the plan {self._plan.path} {what} ({self._log.reason}); build it again with ovs-build")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What pycuda raises (no memory, an illegal address) becomes one line."""
        try:
            yield
        except (PlanError, UsageError):
            raise
        except Exception as error:
            raise PlanError(
                f"the GPU failed on the plan {self._plan.path} ({type(error).__name__}: {error}); free some of its "
                "memory, or build the plan again with ovs-build"
            ) from error

    def _free(self) -> None:
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers.clear()

    def close(self) -> None:
        """Free the engine, the buffers and the context, in this order; the second time, nothing happens."""
        if self._cuda.closed:
            return
        with self._cuda:
            self._vectors, self._active, self.frames = None, None, None
            # Each is made of the next.
            self._context = None
            self._engine = None
            self._runtime = None  # type: ignore[assignment]
            with suppress(Exception):  # a GPU that has failed refuses to free, too
                self._free()
        self._cuda.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _name_and_types(layer: Any) -> tuple[str, str]:
    """Of one entry of the inspector's JSON, which is a mere name where the plan holds no details."""
    if isinstance(layer, str):
        return layer, ""
    types = [str(output.get("Format/Datatype", output.get("Datatype", ""))) for output in layer.get("Outputs", [])]
    return str(layer.get("Name", "")), ", ".join(types)


def _shape(spec: TensorSpec, profile: Profile) -> tuple[int, ...]:
    """The tensor's shape under a profile: K and S are numbers there, and so is `K + 1`."""
    sizes = {"K": profile.classes, "S": profile.names, "K + 1": profile.classes + 1}
    unknown = [axis for axis in spec.shape if isinstance(axis, str) and axis not in sizes]
    if unknown:
        raise PlanError(
            f"{spec.name} has the free axis {unknown[0]!r}, expected K, S or K + 1; export the bundle again"
        )
    return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape)
