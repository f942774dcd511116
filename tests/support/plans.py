"""Plans for the GPU that is not there (fake_gpu.py)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import onnx
import pytest
from support import fake_gpu

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.calibration.tensorrt import make_plan as build_plan
from ovs_edge.calibration.tensorrt.builder import BuildRequest, BuiltEngine
from ovs_edge.calibration.tensorrt.network import EngineLayer
from ovs_edge.runtime.engines.plan import ENGINE, SIDECAR, Plan, Profile, Sidecar, Target

PROFILES = (Profile(4, 2), Profile(16, 5))


def target(**changes: Any) -> Target:
    """The fake's."""
    return Target.here(
        **{"module": "tensorrt", "version": fake_gpu.VERSION, "gpu": fake_gpu.GPU, "capability": "8.7", **changes}
    )


def make_plan(bundle: Bundle, folder: Path, engine: bytes | None = None, **changes: Any) -> Plan:
    """Write a plan of `bundle` that the fake runs, with `changes` to its sidecar."""
    sizes = [(profile.classes, profile.names) for profile in PROFILES]
    data = fake_gpu.engine_bytes(bundle.graph("fp32"), sizes) if engine is None else engine
    described = {
        "bundle": bundle.manifest.name,
        "bundle_digest": bundle.digest,
        "precision": "fp32",
        "formulation": "gridsample",
        "target": target(),
        "profiles": PROFILES,
        "level": 3,
        "engine_sha256": hashlib.sha256(data).hexdigest(),
        "engine_bytes": len(data),
        "created_by": "tests",
        "manifest": bundle.manifest,
        "parity": {"rows": []},
        **changes,
    }
    folder.mkdir(parents=True)
    (folder / ENGINE).write_bytes(data)
    (folder / SIDECAR).write_text(Sidecar(**described).to_json(), encoding="utf-8")
    return Plan.open(folder)


def fake_builder(monkeypatch: pytest.MonkeyPatch, trt: fake_gpu.TensorRT, graph: Path) -> None:
    """Have `ovs-build` make engines of `graph` for the fake; those of `trt.bad` formulations label the wrong class."""

    def build(request: BuildRequest, progress: Any) -> BuiltEngine:
        formulation = request.engine.parent.name.split("-")[1]
        model = graph  # not the request's, whose folder goes: the engine is a path
        if formulation in trt.bad:
            model = request.engine.with_name("bad.onnx")
            spoilt = onnx.load(str(request.graph))
            for node in spoilt.graph.node:
                if node.op_type == "ReduceMax" and node.output[0] == "pixel_logits":
                    node.op_type = "ReduceMin"
            onnx.save(spoilt, str(model))
        trt.built.append(request)
        data = fake_gpu.engine_bytes(model, [(one.classes, one.names) for one in request.profiles])
        request.engine.write_bytes(data)
        layers = (EngineLayer("backbone/Conv", "CONVOLUTION", ("float16",), ("y",), True, None),)
        return BuiltEngine(hashlib.sha256(data).hexdigest(), len(data), 0.1, 1.0, layers, tuple(trt.warnings))

    monkeypatch.setattr(build_plan, "build_in_child", build)
