"""From a bundle to the session of its plan: the one that was named, the cached one, or one that is built now."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ...bundle.bundle import Bundle
from ...bundle.errors import PlanError, note
from .cuda import find_gpu
from .engine import Engine, EngineOptions, Finding, fastest_of, import_in_child
from .onnx_runtime import cuda_frames, cuda_obstacle
from .plan import Plan, Target, fitting
from .tensorrt import TensorRTSession
from .tensorrt_api import MODULES, load

BUILD = "ovs_edge.calibration.build_cli"  # `ovs-build`; run as a program, since a device may do without its packages


def open_plan(bundle: Bundle, precision: str, named: Path | None = None) -> TensorRTSession:
    """A session of the plan at `named`, or of the cached plan; where none fits, `ovs-build` is run first.

    Raises `PlanError` for a plan of another bundle or device, or a build that fails; `UsageError` for a precision that
    the bundle does not have; `MissingExtraError` without TensorRT or pycuda.
    """
    bundle.graph(precision)
    if named is not None:
        return TensorRTSession(_named(bundle, precision, named))
    # Before anything is built: what is missing here will be missing then.
    trt, gpu = load(), find_gpu()
    here = Target.here(trt.module, trt.version, gpu.name, gpu.capability)
    try:
        plan = fitting(bundle, precision, here)
    except PlanError as error:
        note(f"{error}; building it now, which takes minutes")
        command = [sys.executable, "-m", BUILD, str(bundle.path), "--precision", precision]
        command += ["--force"] if bundle.force else []
        if (code := subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode) != 0:
            raise PlanError(f"ovs-build failed (exit code {code}); its message is above") from error
        plan = fitting(bundle, precision, here)
    return TensorRTSession(plan)


def _open(bundle: Bundle, options: EngineOptions) -> TensorRTSession:
    session = open_plan(bundle, options.precision, options.plan)
    # Frames are resized on the GPU where an ONNX Runtime with CUDA is installed as well.
    if cuda_obstacle() is None:
        session.frames = cuda_frames()
    return session


def _fastest(bundle: Bundle, options: EngineOptions) -> str:
    """The precision of the plan that is named, else the fastest of the bundle."""
    return fastest_of("fp16")(bundle, options) if options.plan is None else Plan.open(options.plan).sidecar.precision


def _named(bundle: Bundle, precision: str, path: Path) -> Plan:
    plan = Plan.open(path)
    sidecar = plan.sidecar
    if sidecar.bundle_digest != bundle.digest:
        raise PlanError(
            f"the plan {path} was built from the bundle {sidecar.bundle} {sidecar.bundle_digest[:12]}…, not from "
            f"{bundle.path} ({bundle.digest[:12]}…); name that bundle with --model, or build the plan again"
        )
    if sidecar.precision != precision:
        raise PlanError(
            f"the plan {path} is in {sidecar.precision}, {precision} was asked for; "
            f"run it with --precision {sidecar.precision}"
        )
    if not plan.compared:
        note(f"the plan {path} was never compared with ONNX Runtime on a GPU: its labels may be wrong")
    return plan


def _examine() -> Iterator[Finding]:
    """TensorRT, and what its plans need besides."""
    here = False
    for module in MODULES:
        imported, found = import_in_child(module, f"print({module}.__version__)")
        version = found.splitlines()[-1] if imported and found else ""
        if imported and module == "tensorrt" and version.split(".")[0] in ("7", "8", "9"):
            yield Finding("engines", "note", f"tensorrt {version}", "plans need TensorRT 10 or newer: update JetPack")
        elif imported:
            here = True
            yield Finding("engines", "ok", f"{module} {version}")
        elif "No module named" not in found:
            yield Finding("engines", "note", found, "it comes with JetPack or from NVIDIA, and must fit the driver")
    if here:
        imported, found = import_in_child("pycuda.driver", "print(pycuda.VERSION_TEXT)")
        if imported:
            yield Finding("engines", "ok", f"pycuda {found.splitlines()[-1]}: TensorRT plans can run")
        else:
            remedy = "with the CUDA toolkit on the PATH: pip install 'ovs-edge[tensorrt]'"
            yield Finding("engines", "note", f"TensorRT plans cannot run: {found}", remedy)
    system = Path("/usr/lib/python3/dist-packages/tensorrt")
    if system.is_dir() and sys.prefix != sys.base_prefix and not import_in_child("tensorrt")[0]:
        remedy = "python3 -m venv --system-site-packages .venv"
        yield Finding("engines", "note", "JetPack's tensorrt is hidden from this virtual environment", remedy)


TENSORRT = Engine("tensorrt", _open, examine=_examine, fastest=_fastest)
