"""What this machine has to run a bundle on a GPU: devices, engines, their versions. Nothing here raises."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..machine.system_state import read_system_state

_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "pycuda", "torch", "onnx", "aiohttp")


@dataclass(frozen=True)
class Capabilities:
    """Devices and engines of a machine."""

    gpu: str | None  # name of the first GPU; None: none was found
    driver: str | None  # of the GPU
    capability: str | None  # compute capability, "8.7"; None where neither torch nor pycuda can tell
    memory_mib: int | None  # of the GPU
    providers: tuple[str, ...]  # execution providers of ONNX Runtime
    cuda_obstacle: str | None  # why ONNX Runtime cannot use CUDA; None: it can
    torch_cuda: str | None  # CUDA version of torch, if it finds a device
    packages: dict[str, str]  # installed ones of those that matter

    @property
    def backends(self) -> tuple[str, ...]:
        """Backends of `ovs-bench speed` that can run here, the CPU first."""
        found = ["cpu"]
        if self.cuda_obstacle is None:
            found += ["cuda", "cuda-graphs"]
            found += ["ort-tensorrt"] if "TensorrtExecutionProvider" in self.providers else []
        found += ["ort-rtx"] if self.gpu and "NvTensorRTRTXExecutionProvider" in self.providers else []
        if self.gpu and "pycuda" in self.packages and {"tensorrt", "tensorrt-rtx"} & set(self.packages):
            found.append("tensorrt")
        return tuple(found)


def detect() -> Capabilities:
    """This machine, now."""
    packages = {name: found for name in _PACKAGES if (found := _version(name)) is not None}
    state = read_system_state()
    providers, obstacle = _onnx_runtime()
    device = _torch_device() or _pycuda_device()
    return Capabilities(
        gpu=device.get("name", state.gpu),
        driver=state.driver,
        capability=device.get("capability"),
        memory_mib=device.get("memory_mib"),
        providers=providers,
        cuda_obstacle=obstacle,
        torch_cuda=device.get("torch_cuda"),
        packages=packages,
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _onnx_runtime() -> tuple[tuple[str, ...], str | None]:
    """Providers of ONNX Runtime, and why CUDA is not among those that work."""
    if importlib.util.find_spec("onnxruntime") is None:
        return (), "onnxruntime is not installed"
    from ...runtime.engines.onnx_runtime import cuda_obstacle

    try:
        import onnxruntime

        obstacle = cuda_obstacle()
        return tuple(onnxruntime.get_available_providers()), None if obstacle is None else obstacle.text
    except Exception as error:  # noqa: BLE001 - a build for other libraries raises whatever its loader does
        return (), f"onnxruntime does not load ({error})"


def _torch_device() -> dict[str, Any]:
    """What torch says of the first CUDA device; empty without torch or device."""
    if importlib.util.find_spec("torch") is None:
        return {}
    try:
        import torch

        if not torch.cuda.is_available():
            return {}
        properties = torch.cuda.get_device_properties(0)
        return {
            "name": str(properties.name),
            "capability": f"{properties.major}.{properties.minor}",
            "memory_mib": int(properties.total_memory // 2**20),
            "torch_cuda": str(torch.version.cuda),
        }
    except Exception:  # noqa: BLE001 - as above
        return {}


def _pycuda_device() -> dict[str, Any]:
    if importlib.util.find_spec("pycuda") is None:
        return {}
    try:
        from ...runtime.engines.cuda import find_gpu

        gpu = find_gpu()
        return {"name": gpu.name, "capability": gpu.capability}
    except Exception:  # noqa: BLE001 - as above
        return {}
